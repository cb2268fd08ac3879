//! ELB's security policies: those served, and why the others are not.

use std::fmt;
use std::str::FromStr;

use super::Invalid;
use super::invalid::{nearest, quoted};

/// The ELB security policies that rustls honours exactly; parsing any other name says which of these are near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SslPolicy {
    /// `ELBSecurityPolicy-TLS13-1-3-2021-06`: TLS 1.3 alone.
    Tls13Only,
    /// `ELBSecurityPolicy-TLS13-1-2-Res-2021-06`: TLS 1.3 and 1.2, forward secret AEAD suites; the default.
    #[default]
    Tls13And12Restricted,
    /// `ELBSecurityPolicy-FS-1-2-Res-2020-10`: TLS 1.2 alone, forward secret AEAD suites.
    Tls12Restricted,
}

/// What every name begins with.
const PREFIX: &str = "ELBSecurityPolicy-";

impl SslPolicy {
    /// Every policy served.
    pub const ALL: &'static [Self] = &[
        Self::Tls13And12Restricted,
        Self::Tls13Only,
        Self::Tls12Restricted,
    ];

    /// The name as ELBv2 spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls13Only => "ELBSecurityPolicy-TLS13-1-3-2021-06",
            Self::Tls13And12Restricted => "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
            Self::Tls12Restricted => "ELBSecurityPolicy-FS-1-2-Res-2020-10",
        }
    }

    fn gives(self) -> &'static str {
        match self {
            Self::Tls13Only => "TLS 1.3 alone",
            Self::Tls13And12Restricted => "TLS 1.3 and 1.2, ECDHE with AES-GCM",
            Self::Tls12Restricted => "TLS 1.2 alone, ECDHE with AES-GCM",
        }
    }
}

impl fmt::Display for SslPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SslPolicy {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(policy) = Self::ALL.iter().find(|policy| policy.as_str() == text) {
            return Ok(*policy);
        }
        let unserved = UNSERVED
            .iter()
            .find(|(name, _, _)| text.strip_prefix(PREFIX) == Some(name));
        Err(match unserved {
            Some((_, needs, nearest)) => cannot_be_served(text, needs, nearest),
            None if text.starts_with(PREFIX) && text.contains("RFC9151") => {
                cannot_be_served(text, &[Fips], TLS13)
            }
            None => unknown(text),
        })
    }
}

/// What a policy asks for that rustls with aws-lc-rs does not give.
#[derive(Clone, Copy)]
enum Needs {
    /// TLS 1.0, or 1.0 and 1.1.
    OldVersions,
    /// Suites in CBC mode, some with SHA-1.
    Cbc,
    /// Key exchange by RSA encryption, without forward secrecy.
    PlainRsa,
    /// A FIPS-validated module.
    Fips,
    /// Hybrid groups with ML-KEM, exactly ELB's three.
    PostQuantum,
}
use Needs::{Cbc, Fips, OldVersions, PlainRsa, PostQuantum};

impl Needs {
    fn words(self) -> &'static str {
        match self {
            Self::OldVersions => "TLS 1.0 or 1.1",
            Self::Cbc => "CBC suites",
            Self::PlainRsa => "plain-RSA key exchange",
            Self::Fips => "a FIPS-validated module",
            Self::PostQuantum => "ELB's post-quantum groups",
        }
    }
}

const TLS13: &[SslPolicy] = &[SslPolicy::Tls13Only];
const BOTH: &[SslPolicy] = &[SslPolicy::Tls13And12Restricted];
const TLS12: &[SslPolicy] = &[SslPolicy::Tls12Restricted, SslPolicy::Tls13And12Restricted];

/// ELB's other policies (ALB user guide, "Security policies"): what each needs that is not to be had here,
/// and the policies served that are nearest.
const UNSERVED: &[(&str, &[Needs], &[SslPolicy])] = &[
    ("2016-08", &[OldVersions, Cbc, PlainRsa], BOTH),
    ("2015-05", &[OldVersions, Cbc, PlainRsa], BOTH),
    ("TLS-1-0-2015-04", &[OldVersions, Cbc, PlainRsa], BOTH),
    ("TLS-1-1-2017-01", &[OldVersions, Cbc, PlainRsa], BOTH),
    ("TLS-1-2-2017-01", &[Cbc, PlainRsa], TLS12),
    ("TLS-1-2-Ext-2018-06", &[Cbc, PlainRsa], TLS12),
    ("FS-2018-06", &[OldVersions, Cbc], BOTH),
    ("FS-1-1-2019-08", &[OldVersions, Cbc], BOTH),
    ("FS-1-2-2019-08", &[Cbc], TLS12),
    ("FS-1-2-Res-2019-08", &[Cbc], TLS12),
    ("TLS13-1-2-2021-06", &[Cbc], BOTH),
    ("TLS13-1-2-Ext1-2021-06", &[Cbc, PlainRsa], BOTH),
    ("TLS13-1-2-Ext2-2021-06", &[Cbc, PlainRsa], BOTH),
    ("TLS13-1-1-2021-06", &[OldVersions, Cbc, PlainRsa], BOTH),
    ("TLS13-1-0-2021-06", &[OldVersions, Cbc, PlainRsa], BOTH),
    ("TLS13-1-3-PQ-2025-09", &[PostQuantum], TLS13),
    ("TLS13-1-2-Res-PQ-2025-09", &[PostQuantum], BOTH),
    ("TLS13-1-2-PQ-2025-09", &[Cbc, PostQuantum], BOTH),
    (
        "TLS13-1-2-Ext1-PQ-2025-09",
        &[Cbc, PlainRsa, PostQuantum],
        BOTH,
    ),
    (
        "TLS13-1-2-Ext2-PQ-2025-09",
        &[Cbc, PlainRsa, PostQuantum],
        BOTH,
    ),
    (
        "TLS13-1-0-PQ-2025-09",
        &[OldVersions, Cbc, PlainRsa, PostQuantum],
        BOTH,
    ),
    ("TLS13-1-3-FIPS-2023-04", &[Fips], TLS13),
    ("TLS13-1-2-Res-FIPS-2023-04", &[Fips], BOTH),
    ("TLS13-1-2-FIPS-2023-04", &[Cbc, Fips], BOTH),
    ("TLS13-1-2-Ext0-FIPS-2023-04", &[Cbc, Fips], BOTH),
    ("TLS13-1-2-Ext1-FIPS-2023-04", &[Cbc, PlainRsa, Fips], BOTH),
    ("TLS13-1-2-Ext2-FIPS-2023-04", &[Cbc, PlainRsa, Fips], BOTH),
    (
        "TLS13-1-1-FIPS-2023-04",
        &[OldVersions, Cbc, PlainRsa, Fips],
        BOTH,
    ),
    (
        "TLS13-1-0-FIPS-2023-04",
        &[OldVersions, Cbc, PlainRsa, Fips],
        BOTH,
    ),
    ("TLS13-1-3-FIPS-PQ-2025-09", &[Fips, PostQuantum], TLS13),
    ("TLS13-1-2-Res-FIPS-PQ-2025-09", &[Fips, PostQuantum], BOTH),
    ("TLS13-1-2-FIPS-PQ-2025-09", &[Cbc, Fips, PostQuantum], BOTH),
    (
        "TLS13-1-2-Ext0-FIPS-PQ-2025-09",
        &[Cbc, Fips, PostQuantum],
        BOTH,
    ),
    (
        "TLS13-1-2-Ext1-FIPS-PQ-2025-09",
        &[Cbc, PlainRsa, Fips, PostQuantum],
        BOTH,
    ),
    (
        "TLS13-1-2-Ext2-FIPS-PQ-2025-09",
        &[Cbc, PlainRsa, Fips, PostQuantum],
        BOTH,
    ),
    (
        "TLS13-1-0-FIPS-PQ-2025-09",
        &[OldVersions, Cbc, PlainRsa, Fips, PostQuantum],
        BOTH,
    ),
];

fn cannot_be_served(text: &str, needs: &[Needs], nearest: &[SslPolicy]) -> Invalid {
    let needs: Vec<&str> = needs.iter().map(|needs| needs.words()).collect();
    let needs = match needs.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        other => other.concat(),
    };
    Invalid::new(
        format_args!(
            "security policy {} is one of ELB's, but asks for {needs}, which albedo does not have",
            quoted(text)
        ),
        format_args!("the nearest served: {}", listed(nearest)),
    )
}

fn unknown(text: &str) -> Invalid {
    let names = || {
        let served = SslPolicy::ALL.iter().map(|policy| policy.as_str());
        let served = served.filter_map(|name| name.strip_prefix(PREFIX));
        served.chain(UNSERVED.iter().map(|(name, _, _)| *name))
    };
    let short = text.strip_prefix(PREFIX).unwrap_or(text);
    let remedy = match nearest(short, names()) {
        Some(name) => format!("did you mean '{PREFIX}{name}'?"),
        None => format!("write one of {}", listed(SslPolicy::ALL)),
    };
    Invalid::new(
        format_args!("{} is not a security policy of ELB", quoted(text)),
        remedy,
    )
}

fn listed(policies: &[SslPolicy]) -> String {
    let names = policies
        .iter()
        .map(|policy| format!("'{policy}' ({})", policy.gives()));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<SslPolicy>().unwrap_err().to_string()
    }

    #[test]
    fn served_names_are_read() {
        for policy in SslPolicy::ALL {
            assert_eq!(policy.as_str().parse(), Ok(*policy));
        }
    }

    #[test]
    fn a_policy_of_elb_that_cannot_be_served_says_why_and_names_the_nearest() {
        assert_eq!(
            refusal("ELBSecurityPolicy-2016-08"),
            "security policy 'ELBSecurityPolicy-2016-08' is one of ELB's, but asks for TLS 1.0 or 1.1, CBC suites \
             and plain-RSA key exchange, which albedo does not have; the nearest served: \
             'ELBSecurityPolicy-TLS13-1-2-Res-2021-06' (TLS 1.3 and 1.2, ECDHE with AES-GCM)"
        );
        assert!(refusal("ELBSecurityPolicy-FS-1-2-2019-08").contains("FS-1-2-Res-2020-10"));
        assert!(refusal("ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04").contains("FIPS-validated"));
        assert!(refusal("ELBSecurityPolicy-TLS13-1-3-RFC9151-FIPS-2023-07").contains("FIPS"));
    }

    #[test]
    fn a_typing_error_reads_differently() {
        assert_eq!(
            refusal("ELBSecurityPolicy-TLS13-1-2-Res-2021-6"),
            "'ELBSecurityPolicy-TLS13-1-2-Res-2021-6' is not a security policy of ELB; \
             did you mean 'ELBSecurityPolicy-TLS13-1-2-Res-2021-06'?"
        );
        assert!(refusal("TLS13-1-3-2021-06").contains("'ELBSecurityPolicy-TLS13-1-3-2021-06'?"));
        assert!(refusal("modern").contains("write one of"));
    }

    #[test]
    fn no_policy_is_both_served_and_unserved() {
        for (name, _, _) in UNSERVED {
            assert!(refusal(&format!("{PREFIX}{name}")).contains("one of ELB's"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(ELBSecurityPolicy-)?.{0,40}") {
            let _ = text.parse::<SslPolicy>();
        }
    }
}
