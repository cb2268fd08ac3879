//! Writes one line for every finished exchange. Never makes a request wait: a line that finds the queue full is
//! counted and lost.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use metrics::Counter;

use super::record::{LoadBalancerId, append_alb, append_json};
use crate::message::Exchange;
use crate::model::{self, AccessLogFormat, AccessLogSink, LoadBalancerName};

/// Bytes of lines that wait for the disk: about 16,000 of common length, a tenth of a second at full speed.
const QUEUE_SIZE_MAX: usize = 8 * 1024 * 1024;

/// Bytes written in one call.
const BATCH_SIZE: usize = 256 * 1024;

/// How long the writer lets lines gather after a batch. While it does, a worker's line wakes nobody.
const GATHER_TIME: Duration = Duration::from_millis(50);

/// Room for a line of common length, so that it is allocated once.
const LINE_SIZE_COMMON: usize = 768;

/// A handle on the log, for whoever has something to record; clones write to the same place. Dropping it costs nothing,
/// whoever holds it: the lines that wait are the writer's.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    format: AccessLogFormat,
    load_balancer: LoadBalancerId,
    queue: Queue,
}

impl AccessLog {
    /// Opens the log, a file for appending, and starts its writer. `dropped` counts lines that were lost.
    ///
    /// # Errors
    /// When the file cannot be opened or no thread can be had.
    pub(crate) fn open(
        settings: &model::AccessLog,
        load_balancer: &LoadBalancerName,
        dropped: Counter,
    ) -> io::Result<(Self, Writer)> {
        let sink = match &settings.sink {
            AccessLogSink::Stdout => Sink::Stdout,
            AccessLogSink::File(path) => Sink::File(LogFile::open(path)?),
        };
        let (queue, waiting) = queue(dropped);
        let log = Self(Arc::new(Inner {
            format: settings.format,
            load_balancer: LoadBalancerId::new(load_balancer),
            queue,
        }));
        Ok((log, Writer::start(waiting, sink)?))
    }

    /// Queues the exchange's line.
    pub(crate) fn record(&self, exchange: &Exchange) {
        let inner = &*self.0;
        // The one allocation: the line itself travels to the writer.
        let mut line = Vec::with_capacity(LINE_SIZE_COMMON);
        match inner.format {
            AccessLogFormat::Alb => append_alb(&mut line, &inner.load_balancer, exchange),
            AccessLogFormat::Json => append_json(&mut line, &inner.load_balancer, exchange),
        }
        inner.queue.push(line);
    }
}

/// The workers' end of the queue.
#[derive(Debug)]
struct Queue {
    lines: Sender<Vec<u8>>,
    size: Arc<AtomicUsize>,
    dropped: Counter,
}

/// The writer's end of the queue.
struct Waiting {
    lines: Receiver<Vec<u8>>,
    size: Arc<AtomicUsize>,
    dropped: Counter,
}

/// A queue bounded by the bytes in it: lines differ in length by a factor of a hundred, and memory is what counts.
fn queue(dropped: Counter) -> (Queue, Waiting) {
    let (sender, receiver) = channel();
    let size = Arc::<AtomicUsize>::default();
    let queue = Queue {
        lines: sender,
        size: Arc::clone(&size),
        dropped: dropped.clone(),
    };
    let waiting = Waiting {
        lines: receiver,
        size,
        dropped,
    };
    (queue, waiting)
}

impl Queue {
    fn push(&self, line: Vec<u8>) {
        let size = line.len();
        let before = self.size.fetch_add(size, Ordering::Relaxed);
        if before + size > QUEUE_SIZE_MAX {
            self.size.fetch_sub(size, Ordering::Relaxed);
            self.dropped.increment(1);
        } else if self.lines.send(line).is_err() {
            self.dropped.increment(1);
        }
    }
}

impl Waiting {
    /// Waits for a line, then takes what else is there, up to a batch. Gives the number of lines, `None` when no
    /// more will come.
    fn fill(&self, batch: &mut Vec<u8>) -> Option<u64> {
        batch.clear();
        let mut count = 1;
        self.take(batch, self.lines.recv().ok()?);
        while batch.len() < BATCH_SIZE
            && let Ok(line) = self.lines.try_recv()
        {
            self.take(batch, line);
            count += 1;
        }
        Some(count)
    }

    fn take(&self, batch: &mut Vec<u8>, line: Vec<u8>) {
        self.size.fetch_sub(line.len(), Ordering::Relaxed);
        batch.extend_from_slice(&line);
    }
}

/// The thread that writes; ends once every handle is dropped and every line written.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<()>,
    /// Dropped to end the gathering at once.
    hurry: Sender<Infallible>,
    /// Disconnected when the thread has done its work.
    finished: Receiver<Infallible>,
}

impl Writer {
    fn start(waiting: Waiting, mut sink: Sink) -> io::Result<Self> {
        let (hurry, hurried) = channel();
        let (finishing, finished) = channel();
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_batches(&waiting, &mut sink, &hurried);
                drop(finishing);
            })?;
        Ok(Self {
            thread,
            hurry,
            finished,
        })
    }

    /// Whether nothing is left to write, and nobody who could write any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the last lines, all handles being dropped, but not beyond `limit`.
    pub(crate) fn finish(self, limit: Duration) {
        drop(self.hurry);
        match self.finished.recv_timeout(limit) {
            Err(RecvTimeoutError::Disconnected) => {
                // A writer that panicked has said so itself.
                let _ = self.thread.join();
            }
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the access log takes no more lines; those that wait are lost");
            }
            Ok(never) => match never {},
        }
    }
}

fn write_batches(waiting: &Waiting, sink: &mut Sink, hurried: &Receiver<Infallible>) {
    let mut batch = Vec::with_capacity(BATCH_SIZE);
    let mut health = Health::Writing;
    while let Some(count) = waiting.fill(&mut batch) {
        let outcome = sink.write(&batch);
        if outcome.is_err() {
            waiting.dropped.increment(count);
        }
        health = health.after(outcome);
        if batch.len() < BATCH_SIZE {
            // Ends early when the log is closed; what waits is still written.
            let _ = hurried.recv_timeout(GATHER_TIME);
        }
    }
}

/// Whether the last batch was written; a change is told once.
#[derive(Clone, Copy)]
enum Health {
    Writing,
    Failing,
}

impl Health {
    fn after(self, outcome: io::Result<()>) -> Self {
        match (self, outcome) {
            (Self::Writing, Err(error)) => {
                tracing::warn!(%error, "access log lines are lost: they cannot be written");
                Self::Failing
            }
            (Self::Failing, Ok(())) => {
                tracing::info!("access log lines are written again");
                Self::Writing
            }
            (same, _) => same,
        }
    }
}

enum Sink {
    Stdout,
    File(LogFile),
}

impl Sink {
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::File(file) => file.write(batch),
        }
    }
}

/// A file that stays at its path when somebody moves it away, so that `logrotate` needs no signal.
struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        if !self.is_at_its_path()? {
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(batch)
    }

    fn is_at_its_path(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match self.path.metadata() {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    use super::*;

    fn counter() -> (Counter, Arc<AtomicU64>) {
        let count = Arc::<AtomicU64>::default();
        (Counter::from_arc(Arc::clone(&count)), count)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    fn open(path: &Path, format: AccessLogFormat) -> (AccessLog, Writer) {
        let settings = model::AccessLog {
            sink: AccessLogSink::File(path.to_owned()),
            format,
        };
        AccessLog::open(&settings, &"shop".parse().unwrap(), Counter::noop()).unwrap()
    }

    #[test]
    fn every_line_is_written_when_the_last_handle_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, writer) = open(&path, AccessLogFormat::Alb);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                thread::spawn(move || {
                    let exchange = Exchange::for_test(Instant::now());
                    (0..500).for_each(|_| log.record(&exchange));
                })
            })
            .collect();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert!(!writer.is_finished());
        drop(log);
        writer.finish(PATIENCE);
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 2000);
        assert!(
            written
                .lines()
                .all(|line| line.starts_with("http 2026-01-02T03:04:05.173"))
        );
    }

    #[test]
    fn a_handle_that_somebody_keeps_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, writer) = open(&path, AccessLogFormat::Alb);
        let kept = log.clone();
        drop(log);
        writer.finish(Duration::ZERO);
        kept.record(&Exchange::for_test(Instant::now()));
    }

    #[test]
    fn an_existing_file_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        fs::write(&path, "before\n").unwrap();
        let (log, writer) = open(&path, AccessLogFormat::Json);
        log.record(&Exchange::for_test(Instant::now()));
        drop(log);
        writer.finish(PATIENCE);
        let written = fs::read_to_string(&path).unwrap();
        assert!(
            written.starts_with("before\n{\"type\":\"http\""),
            "{written}"
        );
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let rotated = folder.path().join("access.log.1");
        let mut file = LogFile::open(&path).unwrap();
        file.write(b"first\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        file.write(b"second\n").unwrap();
        assert_eq!(fs::read(&rotated).unwrap(), b"first\n");
        assert_eq!(fs::read(&path).unwrap(), b"second\n");
    }

    #[test]
    fn a_line_that_finds_the_queue_full_is_counted() {
        const LINE_SIZE: usize = 1024;
        let (dropped, count) = counter();
        let (queue, waiting) = queue(dropped);
        let fits = QUEUE_SIZE_MAX / LINE_SIZE;
        (0..fits + 3).for_each(|_| queue.push(vec![b'x'; LINE_SIZE]));
        assert_eq!(count.load(Ordering::Relaxed), 3);

        // What is taken makes room again.
        waiting.fill(&mut Vec::new()).unwrap();
        queue.push(vec![b'x'; LINE_SIZE]);
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (dropped, count) = counter();
        let (queue, waiting) = queue(dropped);
        queue.push(b"one\n".to_vec());
        queue.push(b"two\n".to_vec());
        drop(queue);
        // Writing to a full disk fails with ENOSPC.
        let mut sink = Sink::File(LogFile::open(Path::new("/dev/full")).unwrap());
        let (_hurry, hurried) = channel();
        write_batches(&waiting, &mut sink, &hurried);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_refused() {
        let settings = model::AccessLog {
            sink: AccessLogSink::File("/no/such/folder/access.log".into()),
            format: AccessLogFormat::Alb,
        };
        let name = "shop".parse().unwrap();
        assert!(AccessLog::open(&settings, &name, Counter::noop()).is_err());
    }
}
