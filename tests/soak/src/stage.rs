//! The run: sets the scene, lets clients and events loose, and asks at the end what is left.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Arguments;
use crate::balancer::{self, Balancer, Holds, Table};
use crate::certificates::{Authority, NAMES};
use crate::client::http1::{self, Manner};
use crate::client::socket::{self, Life};
use crate::client::{Mix, Scene, http2};
use crate::clock::{Millis, now, shown};
use crate::ledger::{Ledger, Way};
use crate::plan::{self, Event, Phases, Track};
use crate::report::{self, Outcome, Report, Sample};
use crate::target::{Open, Target};
use crate::world::{Addresses, Group, Place, TargetId};

/// How long clients may take to finish what they have begun.
const CLIENTS_END: Duration = Duration::from_secs(60);

/// How long the load balancer may take to notice that nobody is there any more.
const COMES_TO_REST: Duration = Duration::from_secs(20);

/// What the tracks of events share.
struct Stage {
    ledger: Arc<Ledger>,
    balancer: Arc<Balancer>,
    targets: Vec<Target>,
    authority: Authority,
}

pub(crate) async fn play(arguments: &Arguments) -> Result<Outcome> {
    let phases = Phases::of(arguments.minutes);
    println!(
        "seed {}, {} minutes: {} s calm, {} s upheaval, {} s endurance",
        arguments.seed,
        arguments.minutes,
        phases.calm / 1000,
        phases.upheaval / 1000,
        phases.endurance / 1000
    );
    let tracks = plan::draw(arguments.seed, phases);
    show(&tracks);
    let (stage, scene) = set_up(arguments).await?;
    let stage = Arc::new(stage);
    let at_first = holds(&stage.balancer)?;

    let zero = (Instant::now(), now());
    let clients = let_loose(&scene, arguments.seed);
    let sampling = tokio::spawn(sample(Arc::clone(&stage), zero.1, phases));
    let mut playing = JoinSet::new();
    for track in tracks {
        playing.spawn(follow(Arc::clone(&stage), track, zero.0));
    }
    let events = async {
        while let Some(ended) = playing.join_next().await {
            ended??;
        }
        sleep_until(zero.0 + Duration::from_millis(phases.whole())).await;
        anyhow::Ok(())
    };
    let outcome = tokio::select! {
        outcome = events => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    };
    if let Err(error) = outcome {
        stage
            .ledger
            .violation(format!("the events broke off: {error:#}"));
    }
    stage.ledger.stop();
    end_clients(&stage.ledger, clients).await;
    let samples = sampling.await?;
    let at_rest = come_to_rest(&stage).await?;
    let lasted = now() - zero.1;
    drop(scene);
    let log = end(stage.clone()).await;
    let report = Report {
        phases,
        lasted,
        seed: arguments.seed,
        samples,
        at_first,
        at_rest,
        log,
    };
    Ok(report::tell(&report, &stage.ledger))
}

fn show(tracks: &[Track; 3]) {
    let mut all: Vec<_> = tracks.iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    for (at, event) in all {
        println!("  at {}: {}", shown(*at), event.shown());
    }
}

async fn set_up(arguments: &Arguments) -> Result<(Stage, Scene)> {
    let addresses = Addresses::of_this_process();
    let ledger = Arc::new(Ledger::default());
    let authority = Authority::new()?;
    let (folder, binary) = Balancer::prepare(&arguments.albedo)?;
    for name in NAMES {
        authority.rotate(folder.path(), name, |certificate| {
            ledger.history.certificate_asked(name, certificate);
        })?;
    }
    ledger.history.certificates_acked();
    let secure = authority.target()?;
    let targets: Vec<_> = TargetId::all()
        .map(|id| {
            let tls = (id.group() == Group::Secure).then(|| Arc::clone(&secure));
            Target::new(id, addresses.target(id), Arc::clone(&ledger), tls)
        })
        .collect();
    for target in &targets {
        let (target, ledger) = (target.clone(), Arc::clone(&ledger));
        tokio::spawn(async move {
            let name = target.name();
            let Err(error) = target.run().await else {
                return;
            };
            ledger.violation(format!("the simulated target {name} ended: {error}"));
        });
    }
    balancer::read_access_log(folder.path(), &ledger)?;
    let table = Table {
        turn: 0,
        switch: Group::Red,
        removed: Vec::new(),
    };
    ledger.history.table_asked(table.switch);
    let balancer = Arc::new(Balancer::start(folder, binary, addresses, &table)?);
    balancer.settled().await?;
    ledger.history.table_acked();
    let scene = Scene {
        ledger: Arc::clone(&ledger),
        front: addresses.front(),
        tls_http1: authority.client("http/1.1")?,
        tls_http2: authority.client("h2")?,
    };
    let stage = Stage {
        ledger,
        balancer,
        targets,
        authority,
    };
    Ok((stage, scene))
}

/// About two hundred clients.
fn let_loose(scene: &Scene, seed: u64) -> Vec<JoinHandle<()>> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x50a4);
    let mut clients = Vec::new();
    let manner = |way, mix, uses, thinks| Manner {
        way,
        mix,
        uses,
        thinks,
    };
    let manners = [
        (16, manner(Way::Http1, Mix::Quick, 1000, 8)),
        (12, manner(Way::Http1Tls, Mix::Quick, 300, 8)),
        (4, manner(Way::Http1, Mix::Quick, 1, 20)),
        (2, manner(Way::Http1Tls, Mix::Quick, 1, 20)),
        (24, manner(Way::Http1, Mix::Slow, 20, 50)),
        (12, manner(Way::Http1Tls, Mix::Slow, 20, 50)),
    ];
    for (count, manner) in manners {
        for _ in 0..count {
            let client = http1::client(scene.clone(), random.u64(..), manner);
            clients.push(tokio::spawn(client));
        }
    }
    for way in [Way::Http1, Way::Http1Tls] {
        for _ in 0..4 {
            clients.push(tokio::spawn(http1::sticky_client(
                scene.clone(),
                random.u64(..),
                way,
            )));
        }
        clients.push(tokio::spawn(http1::leaver(
            scene.clone(),
            random.u64(..),
            way,
        )));
    }
    for _ in 0..2 {
        clients.push(tokio::spawn(http1::hasty_client(
            scene.clone(),
            random.u64(..),
        )));
    }
    for (mix, at_once) in [
        (Mix::Quick, 8),
        (Mix::Quick, 4),
        (Mix::Slow, 12),
        (Mix::Slow, 12),
    ] {
        let client = http2::client(scene.clone(), random.u64(..), mix, at_once);
        clients.push(tokio::spawn(client));
    }
    for way in [Way::Http1, Way::Http1Tls, Way::Http2] {
        for _ in 0..8 {
            let (seed, life) = (random.u64(..), Life::Words(20));
            clients.push(tokio::spawn(socket::client(
                scene.clone(),
                seed,
                way,
                life,
                None,
            )));
        }
        for _ in 0..6 {
            let (seed, calm) = (random.u64(..), Some(Place::Of(Group::Calm)));
            clients.push(tokio::spawn(socket::client(
                scene.clone(),
                seed,
                way,
                Life::Whole,
                calm,
            )));
        }
    }
    clients
}

/// Lets one event after another happen.
async fn follow(stage: Arc<Stage>, track: Track, zero: Instant) -> Result<()> {
    let mut table = Table {
        turn: 0,
        switch: Group::Red,
        removed: Vec::new(),
    };
    for (at, event) in track {
        sleep_until(zero + Duration::from_millis(at)).await;
        stage.happens(event, &mut table).await?;
    }
    Ok(())
}

impl Stage {
    async fn happens(&self, event: Event, table: &mut Table) -> Result<()> {
        let history = &self.ledger.history;
        match event {
            Event::Fault(target, fault, seen) => {
                history.fault_begins(target, fault, seen);
                self.ledger.note(fault.name(), 1);
                self.ledger.note("faults", 1);
                self.target(target).suffer(fault, seen);
            }
            Event::Recovery(target) => {
                self.target(target).recover();
                history.fault_ends(target);
            }
            Event::Rules => {
                table.turn += 1;
                table.switch = if table.turn.is_multiple_of(2) {
                    Group::Red
                } else {
                    Group::Blue
                };
                self.reload(table).await?;
            }
            Event::Remove(target) => {
                table.removed.push(target);
                history.absence_asked(target);
                self.reload(table).await?;
                history.absence_acked(target);
            }
            Event::Restore(target) => {
                table.removed.retain(|one| *one != target);
                history.absence_lifted(target);
                self.reload(table).await?;
            }
            Event::Drain(target) => {
                history.absence_asked(target);
                self.steer("drain", target).await?;
                history.absence_acked(target);
                self.ledger.note("drains", 1);
            }
            Event::Undrain(target) => {
                history.absence_lifted(target);
                self.steer("undrain", target).await?;
            }
            Event::Certificate(name) => {
                let folder = self.balancer.folder.path();
                self.authority.rotate(folder, name, |certificate| {
                    history.certificate_asked(name, certificate)
                })?;
                self.reload(table).await?;
                self.ledger.note("certificates rotated", 1);
            }
            Event::Nonsense => {
                let good = self.balancer.configuration(table);
                let nonsense = good.replace("forward: calm", "forward: nobody");
                self.balancer.write(&nonsense)?;
                let (done, text) = self.balancer.verb(&["reload"]).await?;
                if done {
                    self.ledger
                        .violation(format!("nonsense was accepted: {text}"));
                }
                self.balancer.write(&good)?;
                self.ledger.note("reloads refused", 1);
            }
            Event::Upgrade => {
                let upgrade = history.upgrade_asked();
                let old = self.balancer.upgrade().await?;
                self.ledger.note("upgrades", 1);
                let ledger = Arc::clone(&self.ledger);
                tokio::spawn(async move {
                    if !Balancer::goes(old).await {
                        ledger.violation(format!("process {old} was replaced and does not go"));
                    }
                    ledger.history.old_is_gone(upgrade);
                });
            }
        }
        Ok(())
    }

    async fn reload(&self, table: &Table) -> Result<()> {
        self.ledger.history.table_asked(table.switch);
        self.balancer.write(&self.balancer.configuration(table))?;
        let (done, text) = self.balancer.verb(&["reload"]).await?;
        if !done {
            return Err(anyhow!("a reload was refused: {text}"));
        }
        self.ledger.history.table_acked();
        self.ledger.history.certificates_acked();
        self.ledger.note("reloads", 1);
        Ok(())
    }

    async fn steer(&self, verb: &str, target: TargetId) -> Result<()> {
        let name = self.balancer.name(target);
        let (done, text) = self
            .balancer
            .verb(&[verb, target.group().name(), &name])
            .await?;
        match done {
            true => Ok(()),
            false => Err(anyhow!("{verb} {name}: {text}")),
        }
    }

    fn target(&self, id: TargetId) -> &Target {
        &self.targets[usize::from(id.0)]
    }
}

/// Looks once a second at what the serving process holds.
async fn sample(stage: Arc<Stage>, zero: Millis, phases: Phases) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut rounds = tokio::time::interval(Duration::from_secs(1));
    while !stage.ledger.is_stopping() {
        rounds.tick().await;
        let at = now() - zero;
        let phase = match at {
            at if at < phases.calm => report::CALM,
            at if at < phases.calm + phases.upheaval => report::UPHEAVAL,
            _ => report::ENDURANCE,
        };
        stage.ledger.begins(phase);
        if let Some(holds) = stage.balancer.holds() {
            samples.push(Sample {
                at,
                process: stage.balancer.serving(),
                holds,
            });
        }
        if samples.len() % 30 == 0 {
            let begun = stage.ledger.begun();
            println!(
                "     {}: {begun} requests, lost: {}",
                shown(at),
                stage.ledger.sums().lost
            );
        }
    }
    samples
}

async fn end_clients(ledger: &Ledger, clients: Vec<JoinHandle<()>>) {
    let deadline = Instant::now() + CLIENTS_END;
    for client in clients {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, client).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => ledger.violation(format!("a client of the soak broke: {error}")),
            Err(_) => ledger.violation("a client does not end".into()),
        }
    }
}

/// What is held when nobody is there any more: no connection of a client, no request, and no descriptor but those of
/// the start and idle connections to targets.
async fn come_to_rest(stage: &Stage) -> Result<Holds> {
    let deadline = Instant::now() + COMES_TO_REST;
    let mut busy;
    loop {
        busy = balancer::busy(&stage.balancer.status().await?);
        if busy == (0, 0) || Instant::now() > deadline {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    if busy != (0, 0) {
        let (connections, requests) = busy;
        let text = format!("{connections} connections and {requests} requests are left at the end");
        stage.ledger.violation(text);
    }
    let mut holds = holds(&stage.balancer)?;
    holds.descriptors = holds.descriptors.saturating_sub(Open::count());
    Ok(holds)
}

/// Stops everything, and gives what was logged.
async fn end(stage: Arc<Stage>) -> String {
    let ledger = Arc::clone(&stage.ledger);
    let stopped = stage.balancer.stop().await;
    if let Err(what) = stopped {
        ledger.violation(what);
    }
    let left = stage.balancer.processes();
    if !left.is_empty() {
        ledger.violation(format!("processes are left: {left:?}"));
    }
    // Whoever wrote the access log has written all of it; the reader has what the pipe held, or will in a moment.
    let mut lines = ledger.lines();
    loop {
        sleep(Duration::from_millis(500)).await;
        let more = ledger.lines();
        if more == lines {
            break;
        }
        lines = more;
    }
    ledger.close();
    stage.balancer.log()
}

fn holds(balancer: &Balancer) -> Result<Holds> {
    balancer
        .holds()
        .ok_or_else(|| anyhow!("the load balancer is gone: {}", balancer.log()))
}
