//! The verbs of the command line: what `main` runs. Never serves a request: that is `app`.

mod ask;
mod check;
mod completions;
mod demo;
mod drain;
mod out;
mod reload;
mod run;
mod schema;
mod status;
mod upgrade;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};

use crate::app;
use crate::model::AdminAddress;

/// Where a configuration is looked for when none is named, in this order.
const CONFIG_FILES: [&str; 2] = ["./config/albedo.yaml", "/etc/albedo/albedo.yaml"];

/// Verbs that have their name already and do nothing yet.
const LATER: [&str; 6] = ["explain", "plan", "top", "switch", "pause", "resume"];

/// Reads the command line and does what it says.
///
/// # Errors
/// When the answer cannot be written, or the system gives no threads to find it.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Exit> {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.run(),
        Err(error) => explain(&error),
    }
}

/// How a verb ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Clean,
    /// The configuration is refused, or what was asked for is not so.
    Refused,
    /// The command line says nothing that can be done.
    Usage,
    /// An address could not be bound.
    CouldNotBind,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Clean => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::CouldNotBind => 3,
        })
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "albedo",
    version,
    about = "A software application load balancer"
)]
struct Cli {
    /// The running instance: ADDRESS:PORT or unix:PATH [default: 127.0.0.1:9900]
    #[arg(long, global = true, value_name = "ADDR")]
    admin: Option<AdminAddress>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run in the foreground
    Run {
        /// Default: ./config/albedo.yaml, then /etc/albedo/albedo.yaml
        config: Option<PathBuf>,
    },
    /// Serve the DataRobot table on loopback, with targets built in
    Demo,
    /// Validate a configuration and print every problem
    Check {
        /// Default: ./config/albedo.yaml, then /etc/albedo/albedo.yaml
        config: Option<PathBuf>,
    },
    /// Show groups, targets and their health, listeners and generation of the running instance
    Status {
        /// Print the admin address's own JSON
        #[arg(long)]
        json: bool,
    },
    /// Let the running instance read its file again; if the file is refused, nothing changes
    Reload,
    /// Take a target out of its group: no new requests, and time to finish the others
    Drain {
        group: String,
        /// ADDRESS, NAME, or either with :PORT
        target: String,
    },
    /// Bring a target back that was taken out
    Undrain {
        group: String,
        /// ADDRESS, NAME, or either with :PORT
        target: String,
    },
    /// Let the installed binary take over from the running instance; if it cannot, nothing changes
    Upgrade,
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

impl Cli {
    fn run(self) -> io::Result<Exit> {
        let admin = self.admin;
        match self.verb {
            Verb::Run { .. } | Verb::Check { .. } | Verb::Schema | Verb::Completions { .. }
                if admin.is_some() =>
            {
                out::complain("--admin names a running instance, and this verb asks none");
                Ok(Exit::Usage)
            }
            Verb::Run { config } => Ok(run::run(config)),
            Verb::Demo => Ok(demo::run(admin.unwrap_or_default())),
            Verb::Check { config } => check::run(config),
            Verb::Status { json: true } => status::print_json(&admin.unwrap_or_default()),
            Verb::Status { json: false } => status::print_table(&admin.unwrap_or_default()),
            Verb::Reload => reload::run(&admin.unwrap_or_default()),
            Verb::Drain { group, target } => {
                drain::drain(&admin.unwrap_or_default(), &group, &target)
            }
            Verb::Undrain { group, target } => {
                drain::undrain(&admin.unwrap_or_default(), &group, &target)
            }
            Verb::Upgrade => upgrade::run(&admin.unwrap_or_default()),
            Verb::Schema => schema::run(),
            Verb::Completions { shell } => completions::run(shell, &mut Self::command()),
        }
    }
}

/// Says what is wrong with a command line; help and version are "wrong" too.
fn explain(error: &clap::Error) -> io::Result<Exit> {
    if let Some(verb) = later_verb(error) {
        out::complain(format_args!("'{verb}' is not served yet"));
        return Ok(Exit::Usage);
    }
    let text = error.render().to_string();
    if error.use_stderr() {
        out::show(&text);
        return Ok(Exit::Usage);
    }
    out::print(&text)?;
    Ok(Exit::Clean)
}

fn later_verb(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    LATER.into_iter().find(|verb| verb == word)
}

/// The configuration that was named, or the first of the usual ones that exists.
fn config_file(named: Option<PathBuf>) -> Option<PathBuf> {
    let usual = || {
        CONFIG_FILES
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
    };
    let found = named.or_else(|| usual().map(Path::to_owned));
    if found.is_none() {
        let [first, second] = CONFIG_FILES;
        out::complain(format_args!(
            "there is neither {first} nor {second}; name a configuration, or try 'albedo demo'"
        ));
    }
    found
}

/// What became of a load balancer that ran in the foreground.
fn exit_of(outcome: Result<(), app::Error>) -> Exit {
    let Err(error) = outcome else {
        return Exit::Clean;
    };
    match error {
        // As `check` says it: each line begins with its place.
        app::Error::Problems(problems) => {
            out::show(&format!("{}\n", problems.to_string().trim_end()));
            Exit::Refused
        }
        app::Error::Refused(_) => {
            out::complain(error);
            Exit::Refused
        }
        app::Error::Bind(_) => {
            out::complain(error);
            Exit::CouldNotBind
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn exit(line: &str) -> Exit {
        main(line.split(' ').map(OsString::from)).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_admin_address_may_stand_before_or_behind_the_verb() {
        let expected = Some("127.0.0.1:9901".parse().unwrap());
        assert_eq!(
            parse("albedo status --admin 127.0.0.1:9901").unwrap().admin,
            expected
        );
        assert_eq!(
            parse("albedo --admin 127.0.0.1:9901 status").unwrap().admin,
            expected
        );
        let socket = parse("albedo status --admin unix:/run/albedo.sock")
            .unwrap()
            .admin;
        assert_eq!(socket, Some(AdminAddress::Unix("/run/albedo.sock".into())));
        assert_eq!(parse("albedo status").unwrap().admin, None);
        assert!(parse("albedo status --admin nonsense").is_err());
    }

    #[test]
    fn a_configuration_may_be_named_or_left_out() {
        let named = |line| match parse(line).unwrap().verb {
            Verb::Run { config } | Verb::Check { config } => config,
            verb => panic!("{verb:?}"),
        };
        assert_eq!(named("albedo run"), None);
        assert_eq!(named("albedo run a.yaml"), Some("a.yaml".into()));
        assert_eq!(named("albedo check a.yaml"), Some("a.yaml".into()));
    }

    #[test]
    fn verbs_of_later_are_refused_by_name_and_not_offered() {
        let help = Cli::command().render_long_help().to_string();
        for verb in LATER {
            let error = parse(&format!("albedo {verb} app --to b")).unwrap_err();
            assert_eq!(later_verb(&error), Some(verb));
            assert_eq!(exit(&format!("albedo {verb}")), Exit::Usage);
            assert!(!help.contains(&format!("  {verb} ")), "{help}");
        }
        assert_eq!(later_verb(&parse("albedo relaod").unwrap_err()), None);
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        for line in [
            "albedo relaod",
            "albedo status --loud",
            "albedo",
            "albedo run a b",
        ] {
            assert_eq!(exit(line), Exit::Usage, "{line}");
        }
    }

    #[test]
    fn an_admin_address_is_refused_where_it_would_do_nothing() {
        assert_eq!(exit("albedo schema --admin 127.0.0.1:9900"), Exit::Usage);
    }

    #[test]
    fn help_and_version_are_no_failure() {
        assert_eq!(exit("albedo --version"), Exit::Clean);
        assert_eq!(exit("albedo --help"), Exit::Clean);
    }
}
