//! What can be wrong with a target, and which ends of requests that explains.

use crate::clock::Millis;
use crate::ledger::End;

/// One thing that is wrong with a target for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Every connection is reset, and nobody listens any more.
    Refuse,
    /// Connections are accepted and reset.
    ResetAtOnce,
    /// Requests are read and never answered.
    Silence,
    /// Nothing is read, accepted or sent any more, until it goes on as if nothing had been: SIGSTOP.
    Stop,
    /// The answer's head breaks off in a reset.
    ResetInHead,
    /// The answer's body breaks off in a reset.
    ResetInBody,
    /// Answers come in small pieces.
    Drip,
    /// The target ends its side instead of an answer, and listens on.
    HalfClose,
    /// The same amid the body.
    HalfCloseInBody,
    /// What comes is no HTTP.
    Garbage,
    /// Interim answers without end.
    Interim,
    /// A head that is longer than anybody reads.
    HugeHead,
    /// Fewer bytes than were announced.
    TooShort,
    /// More bytes than were announced: another answer that nobody asked for.
    TooLong,
    /// Connections end after each answer, unannounced.
    CloseUnannounced,
    /// Every answer is 500.
    Errors,
    /// The process is gone and another service has its address, which says 404 to checks and 200 to everything else.
    TakenOver,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::Refuse,
        Self::ResetAtOnce,
        Self::Silence,
        Self::Stop,
        Self::ResetInHead,
        Self::ResetInBody,
        Self::Drip,
        Self::HalfClose,
        Self::HalfCloseInBody,
        Self::Garbage,
        Self::Interim,
        Self::HugeHead,
        Self::TooShort,
        Self::TooLong,
        Self::CloseUnannounced,
        Self::Errors,
        Self::TakenOver,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuses",
            Self::ResetAtOnce => "resets at once",
            Self::Silence => "stays silent",
            Self::Stop => "stops",
            Self::ResetInHead => "resets in the head",
            Self::ResetInBody => "resets in the body",
            Self::Drip => "drips",
            Self::HalfClose => "half-closes",
            Self::HalfCloseInBody => "half-closes in the body",
            Self::Garbage => "talks garbage",
            Self::Interim => "sends interim answers",
            Self::HugeHead => "sends a huge head",
            Self::TooShort => "sends too little",
            Self::TooLong => "sends too much",
            Self::CloseUnannounced => "closes unannounced",
            Self::Errors => "answers 500",
            Self::TakenOver => "is taken over",
        }
    }

    /// Whether it begins with a reset of every connection.
    pub(crate) fn cuts_at_first(self) -> bool {
        matches!(self, Self::Refuse | Self::ResetAtOnce | Self::TakenOver)
    }

    /// How long after its beginning requests that begin may still suffer, with checks that see it. Zero where whoever
    /// is refused can always be sent elsewhere.
    pub(crate) fn noticed_within(self, detection: Millis) -> Millis {
        match self {
            Self::Refuse => SETTLES,
            _ => detection,
        }
    }

    /// Whether a request at this target may end like this.
    pub(crate) fn explains(self, end: &End) -> bool {
        match end {
            End::Refused(status) => self.statuses().contains(status),
            End::Broken(_) => self.breaks(),
            End::TargetFailed => self == Self::Errors,
            End::Stranger => self == Self::TakenOver,
            End::Whole { .. } | End::Left => true,
            End::Wrong(_) | End::Unanswered | End::Behind | End::Told => false,
        }
    }

    /// What albedo may say instead of an answer.
    fn statuses(self) -> &'static [u16] {
        match self {
            Self::Drip | Self::TooLong | Self::Errors => &[],
            // Silence, or its end, when connections are closed.
            Self::Silence => &[502, 504],
            Self::Stop => &[504],
            Self::Refuse
            | Self::ResetAtOnce
            | Self::ResetInHead
            | Self::ResetInBody
            | Self::HalfClose
            | Self::HalfCloseInBody
            | Self::Garbage
            | Self::Interim
            | Self::HugeHead
            | Self::TooShort
            | Self::CloseUnannounced
            | Self::TakenOver => &[502],
        }
    }

    /// Whether an answer that began may break off.
    fn breaks(self) -> bool {
        match self {
            Self::Drip | Self::TooLong | Self::Errors | Self::CloseUnannounced => false,
            // Of an upload that was refused halfway the client may see the end before the reason.
            Self::Garbage
            | Self::Interim
            | Self::HugeHead
            | Self::HalfClose
            | Self::ResetInHead => false,
            Self::Silence => false,
            Self::Refuse
            | Self::ResetAtOnce
            | Self::Stop
            | Self::ResetInBody
            | Self::HalfCloseInBody
            | Self::TooShort
            | Self::TakenOver => true,
        }
    }
}

/// How long a reset takes to be known to everybody: some turns of a busy machine's scheduler.
pub(crate) const SETTLES: Millis = 500;
