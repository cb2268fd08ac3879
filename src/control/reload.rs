//! Every change of the configuration goes through here, wherever it comes from: it is applied or refused, and either
//! way told to whoever asked, to the log, to the status and to the metrics.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::apply::Rejected;
use super::status::LastReload;
use super::{Applied, Controller};
use crate::config::{Problem, Problems, Severity};
use crate::model::{AdminAddress, Config, LoadBalancerName, Workers};
use crate::telemetry::Outcome;

/// How long workers may take until all of them run a new configuration. One turn of a worker's loop is enough, so one
/// that takes longer is stuck or gone, and whoever waits for the answer hears that.
const TAKE_UP_LIMIT: Duration = Duration::from_secs(5);

/// Why a change was refused; what ran before goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// What the file says cannot be.
    #[error("{0}")]
    Problems(Problems),
    /// Something that it names cannot be used; the same as a problem, with its place if there is a file.
    #[error("{0}")]
    Rejected(Rejected, Box<Problem>),
    /// There is no file to read again.
    #[error("this load balancer was not started from a file, so there is none to read again")]
    NotFromAFile,
    /// Nothing is changed any more.
    #[error("the load balancer is stopping, or another process is taking over")]
    Stopped,
}

impl Refused {
    /// What is wrong with the configuration, one by one.
    pub(crate) fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems(problems) => problems.as_slice(),
            Self::Rejected(_, problem) => std::slice::from_ref(problem),
            Self::NotFromAFile | Self::Stopped => &[],
        }
    }
}

impl Controller {
    /// Runs what an embedding program made.
    pub(super) fn change(
        &mut self,
        config: &Config,
        reply: oneshot::Sender<Result<Applied, Refused>>,
    ) {
        let attempt = |this: &mut Self| this.apply_with_warnings(config, Vec::new());
        self.settle(attempt, reply);
    }

    /// Reads the file again and runs what it says now.
    pub(super) fn reload(&mut self, reply: oneshot::Sender<Result<Applied, Refused>>) {
        self.settle(Self::read_and_apply, reply);
    }

    /// Tries a change and tells what became of it.
    fn settle(
        &mut self,
        attempt: impl FnOnce(&mut Self) -> Result<Applied, Refused>,
        reply: oneshot::Sender<Result<Applied, Refused>>,
    ) {
        // A change begins here; it has ended when the reply is sent, in `answer`.
        let outcome = match self.is_settled() {
            true => Err(Refused::Stopped),
            false => attempt(self),
        };
        match &outcome {
            // Nothing was looked at, so nothing is wrong.
            Err(refused @ (Refused::NotFromAFile | Refused::Stopped)) => {
                tracing::warn!("{refused}");
            }
            Ok(_) | Err(Refused::Problems(_) | Refused::Rejected(..)) => self.tell(&outcome),
        }
        self.answer(outcome, reply);
    }

    fn read_and_apply(&mut self) -> Result<Applied, Refused> {
        let file = self.file.as_mut().ok_or(Refused::NotFromAFile)?;
        let (config, warnings) = file.load().map_err(Refused::Problems)?;
        self.apply_with_warnings(&config, warnings)
    }

    fn apply_with_warnings(
        &mut self,
        config: &Config,
        mut warnings: Vec<Problem>,
    ) -> Result<Applied, Refused> {
        match self.apply(config) {
            Ok(generation) => {
                let doubts = self.doubts(Timestamp::now()).into_iter();
                let found = doubts.chain(self.fixed.unchangeable(config));
                warnings.extend(found.map(|problem| self.placed(problem)));
                Ok(Applied {
                    generation,
                    warnings,
                })
            }
            Err(rejected) => {
                let problem = Box::new(self.placed(rejected.problem()));
                Err(Refused::Rejected(rejected, problem))
            }
        }
    }

    /// A problem with its place in the file, where there is one.
    pub(super) fn placed(&self, mut problem: Problem) -> Problem {
        let file = self.file.as_ref();
        problem.place = file.and_then(|file| file.locate(&problem.path));
        problem
    }

    /// Tells everybody who has not asked.
    fn tell(&self, outcome: &Result<Applied, Refused>) {
        let (outcome, problems) = match outcome {
            Ok(applied) => (Outcome::Applied, &applied.warnings[..]),
            Err(refused) => (Outcome::Refused, refused.problems()),
        };
        problems.iter().for_each(log_problem);
        let (generation, now) = (self.generation, Timestamp::now());
        match outcome {
            Outcome::Applied => tracing::info!(%generation, "configuration applied"),
            Outcome::Refused => {
                tracing::error!(%generation, "configuration refused; the one that runs goes on");
            }
        }
        self.reloads.count(outcome, now);
        let told = LastReload::new(outcome, generation, now, problems);
        self.last_reload.send_replace(Some(Arc::new(told)));
    }

    /// Answers whoever asked: a refusal at once, the rest when every worker has taken the configuration up. Other events
    /// do not wait for that.
    fn answer(
        &self,
        outcome: Result<Applied, Refused>,
        reply: oneshot::Sender<Result<Applied, Refused>>,
    ) {
        // Whoever asked may have left; what was applied stays.
        let mut applied = match outcome {
            Ok(applied) => applied,
            Err(refused) => {
                let _left = reply.send(Err(refused));
                return;
            }
        };
        let taken_up = self.taken_up();
        self.tasks.spawn(async move {
            if timeout(TAKE_UP_LIMIT, taken_up).await.is_err() {
                let late = late();
                log_problem(&late);
                applied.warnings.push(late);
            }
            let _left = reply.send(Ok(applied));
        });
    }
}

/// What is told of a worker that should have looked at the new configuration long ago.
fn late() -> Problem {
    Problem {
        severity: Severity::Warning,
        place: None,
        path: "workers".to_owned(),
        message: "a worker has not taken up the new configuration yet".to_owned(),
        remedy: "ask for the status again; if it stays so, restart".to_owned(),
    }
}

/// Says a problem as serious as it is.
pub(crate) fn log_problem(problem: &Problem) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
    }
}

/// What stays as it was at the start, whatever a later configuration says.
#[derive(Debug)]
pub(super) struct Fixed {
    admin: AdminAddress,
    workers: Workers,
    name: LoadBalancerName,
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            admin: config.admin.clone(),
            workers: config.workers,
            name: config.load_balancer.name.clone(),
        }
    }

    /// A warning for each field that asks for something else.
    fn unchangeable(&self, config: &Config) -> impl Iterator<Item = Problem> {
        let wanted = &config.load_balancer.name;
        let fields = [
            (
                self.admin != config.admin,
                "admin",
                format!("the admin address stays '{}' while albedo runs", self.admin),
            ),
            (
                self.workers != config.workers,
                "workers",
                "the number of workers stays as it is while albedo runs".to_owned(),
            ),
            (
                self.name != *wanted,
                "load_balancer.name",
                format!("metrics keep the name '{}' while albedo runs", self.name),
            ),
        ];
        fields
            .into_iter()
            .filter(|(differs, ..)| *differs)
            .map(|(_, path, message)| Problem {
                severity: Severity::Warning,
                place: None,
                path: path.to_owned(),
                message,
                remedy: "restart or upgrade albedo".to_owned(),
            })
    }
}
