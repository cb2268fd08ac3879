//! Writes one line for every finished exchange. Never makes a request wait: a line that finds too many before it is
//! counted and lost.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use metrics::Counter;

use super::record::{LoadBalancerId, Second, append_alb, append_json};
use crate::message::Exchange;
use crate::model::{self, AccessLogFormat, AccessLogSink, LoadBalancerName};
use crate::worker;

/// Bytes of lines that wait for the disk, of all workers: about 16,000 of common length, a tenth of a second of two workers
/// at full speed. Each has an equal part, and the line that goes past it is the last one taken.
const WAITING_MAX: usize = 8 * 1024 * 1024;

/// Bytes of one worker's lines with which the writer begins early.
const BATCH_SIZE: usize = 256 * 1024;

/// How long lines gather, so that many are written in one call: a line is in the file this long after its exchange
/// has ended. Meanwhile a worker's line wakes nobody.
const GATHER_TIME: Duration = Duration::from_millis(50);

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
        workers: usize,
        dropped: Counter,
    ) -> io::Result<(Self, Writer)> {
        let sink = Sink::new(match &settings.sink {
            AccessLogSink::Stdout => Place::Stdout,
            AccessLogSink::File(path) => Place::File(LogFile::open(path)?),
        });
        let (queue, waiting) = queue(workers, dropped);
        let log = Self(Arc::new(Inner {
            format: settings.format,
            load_balancer: LoadBalancerId::new(load_balancer),
            queue,
        }));
        Ok((log, Writer::start(waiting, sink)?))
    }

    /// Adds the exchange's line to those that wait.
    pub(crate) fn record(&self, exchange: &Exchange) {
        let Inner {
            format,
            load_balancer,
            queue,
        } = &*self.0;
        let append = match format {
            AccessLogFormat::Alb => append_alb,
            AccessLogFormat::Json => append_json,
        };
        queue.push(|text, second| append(text, load_balancer, second, exchange));
    }
}

/// The workers' end of the queue.
#[derive(Debug)]
struct Queue {
    gathered: Arc<[Share]>,
    /// Bytes of one worker's lines that may wait.
    waiting_max: usize,
    dropped: Counter,
    /// Wakes a writer that has nothing to do.
    begun: SyncSender<()>,
    /// Wakes a writer that lets lines gather.
    enough: SyncSender<()>,
}

/// The writer's end of the queue. Both bells fall silent when no handle is left.
struct Waiting {
    gathered: Arc<[Share]>,
    dropped: Counter,
    begun: Receiver<()>,
    enough: Receiver<()>,
}

/// What waits of one worker's lines.
///
/// A lock, and yet nobody waits: it is that worker's own, and twenty times a second the writer's, for as long as it takes
/// to put an empty text in the place of a full one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Share(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    /// Of the line that was last.
    second: Second,
}

impl Share {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Lines are whole, or one of them is not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn queue(workers: usize, dropped: Counter) -> (Queue, Waiting) {
    let gathered: Arc<[Share]> = (0..workers.max(1)).map(|_| Share::default()).collect();
    // A bell that was rung and not heard need not be rung again.
    let ((begin, begun), (hurry, enough)) = (sync_channel(1), sync_channel(1));
    let queue = Queue {
        waiting_max: (WAITING_MAX / gathered.len()).max(2 * BATCH_SIZE),
        gathered: Arc::clone(&gathered),
        dropped: dropped.clone(),
        begun: begin,
        enough: hurry,
    };
    let waiting = Waiting {
        gathered,
        dropped,
        begun,
        enough,
    };
    (queue, waiting)
}

impl Queue {
    /// Has `append` write a line behind those of this worker.
    fn push(&self, append: impl FnOnce(&mut Vec<u8>, &mut Second)) {
        let mut lines = self.gathered[worker::index() % self.gathered.len()].lines();
        let before = lines.text.len();
        if before >= self.waiting_max {
            return self.dropped.increment(1);
        }
        let Lines { text, second } = &mut *lines;
        append(text, second);
        let after = text.len();
        drop(lines);
        // Rung by one line in hundreds. A full bell is heard, and nobody is there to hear it once the writer is gone.
        if before == 0 {
            let _ = self.begun.try_send(());
        }
        if before < BATCH_SIZE && after >= BATCH_SIZE {
            let _ = self.enough.try_send(());
        }
    }
}

impl Waiting {
    /// Waits for lines and lets them gather. Whether others may follow.
    fn gather(&self) -> More {
        if self.begun.recv().is_err() {
            return More::No;
        }
        let _ = self.enough.recv_timeout(GATHER_TIME);
        More::MayCome
    }

    /// Takes what waits, worker by worker: hands on their text.
    fn take_all(&self, batch: &mut Vec<u8>, mut hand_on: impl FnMut(&[u8])) {
        for share in &*self.gathered {
            batch.clear();
            mem::swap(&mut share.lines().text, batch);
            if !batch.is_empty() {
                hand_on(batch);
            }
            // What a slow disk let grow shall not stay.
            if batch.capacity() > 2 * BATCH_SIZE {
                *batch = Vec::new();
            }
        }
    }
}

/// Whether anybody is left who may write a line.
#[derive(PartialEq, Eq)]
enum More {
    MayCome,
    No,
}

/// The thread that writes; ends once every handle is dropped and every line written.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<()>,
    /// Disconnected when the thread has done its work.
    finished: Receiver<Infallible>,
}

impl Writer {
    fn start(waiting: Waiting, mut sink: Sink) -> io::Result<Self> {
        let (finishing, finished) = channel();
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_batches(&waiting, &mut sink);
                drop(finishing);
            })?;
        Ok(Self { thread, finished })
    }

    /// Whether nothing is left to write, and nobody who could write any more.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the last lines, all handles being dropped, but not beyond `limit`.
    pub(crate) fn finish(self, limit: Duration) {
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

fn write_batches(waiting: &Waiting, sink: &mut Sink) {
    let mut batch = Vec::new();
    let mut health = Health::Writing;
    loop {
        let more = waiting.gather();
        waiting.take_all(&mut batch, |lines| {
            let outcome = sink.write(lines).map_err(|Lost { count, error }| {
                waiting.dropped.increment(count);
                error
            });
            health = health.after(outcome);
        });
        if more == More::No {
            return;
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

/// Where lines go, and how far they got.
struct Sink {
    place: Place,
    /// Whether the last thing written is half a line, since the disk was full then.
    torn: bool,
}

enum Place {
    Stdout,
    File(LogFile),
}

/// Lines that could not be written, and why.
#[derive(Debug)]
struct Lost {
    count: u64,
    error: io::Error,
}

impl Sink {
    fn new(place: Place) -> Self {
        Self { place, torn: false }
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        match &mut self.place {
            Place::Stdout => {
                let mut stdout = io::stdout().lock();
                write_lines(&mut stdout, &mut self.torn, lines)
            }
            Place::File(file) => match file.at_its_path() {
                Ok(file) => write_lines(file, &mut self.torn, lines),
                Err(error) => Err(Lost::all(lines, error)),
            },
        }
    }
}

impl Lost {
    fn all(lines: &[u8], error: io::Error) -> Self {
        let count = memchr::memchr_iter(b'\n', lines).count() as u64;
        Self { count, error }
    }
}

/// Writes whole lines as far as it goes. Half a line that an earlier failure left is ended first, and was counted then.
fn write_lines(out: &mut impl Write, torn: &mut bool, lines: &[u8]) -> Result<(), Lost> {
    let mut rest = lines;
    let mut write = || {
        if *torn {
            out.write_all(b"\n")?;
            *torn = false;
        }
        while !rest.is_empty() {
            match out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.flush()
    };
    write().map_err(|error| {
        let written = &lines[..lines.len() - rest.len()];
        *torn |= written.last().is_some_and(|&byte| byte != b'\n');
        Lost::all(rest, error)
    })
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

    /// The file that is there now, or a new one.
    fn at_its_path(&mut self) -> io::Result<&mut File> {
        if !self.is_at_its_path()? {
            *self = Self::open(&self.path)?;
        }
        Ok(&mut self.file)
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
    use std::sync::atomic::{AtomicU64, Ordering};
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
        AccessLog::open(&settings, &"shop".parse().unwrap(), 4, Counter::noop()).unwrap()
    }

    #[test]
    fn every_line_is_written_in_order_when_the_last_handle_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, writer) = open(&path, AccessLogFormat::Alb);
        // Five, so that two have to share.
        let workers: Vec<_> = (0..5)
            .map(|index| {
                let log = log.clone();
                let record = async move || {
                    let mut exchange = Exchange::for_test(Instant::now());
                    exchange.sent_bytes = index as u64;
                    for number in 0..500 {
                        exchange.received_bytes = number;
                        log.record(&exchange);
                    }
                };
                worker::start(index, record).unwrap()
            })
            .collect();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert!(!writer.is_finished());
        drop(log);
        writer.finish(PATIENCE);
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 2500);
        let numbers_of = |worker: &str| -> Vec<u64> {
            let fields = written
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>());
            let of_worker = fields.filter(|fields| fields[11] == worker);
            of_worker
                .map(|fields| fields[10].parse().unwrap())
                .collect()
        };
        for worker in ["0", "1", "2", "3", "4"] {
            assert!(numbers_of(worker).into_iter().eq(0..500), "in order");
        }
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
        file.at_its_path().unwrap().write_all(b"first\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        file.at_its_path().unwrap().write_all(b"second\n").unwrap();
        assert_eq!(fs::read(&rotated).unwrap(), b"first\n");
        assert_eq!(fs::read(&path).unwrap(), b"second\n");
    }

    /// A disk with room for so many bytes.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_loses_what_it_cannot_take_and_no_line_is_joined_to_half_of_another() {
        let mut disk = Disk {
            written: Vec::new(),
            room: 9,
        };
        let mut torn = false;
        let lost = write_lines(&mut disk, &mut torn, b"first\nsecond\nthird\n").unwrap_err();
        assert_eq!((lost.count, torn), (2, true));
        let lost = write_lines(&mut disk, &mut torn, b"fourth\n").unwrap_err();
        assert_eq!((lost.count, torn), (1, true));
        disk.room = 100;
        write_lines(&mut disk, &mut torn, b"fifth\n").unwrap();
        assert_eq!(disk.written, b"first\nsec\nfifth\n");
        assert!(!torn);
    }

    fn say(queue: &Queue, line: &[u8]) {
        queue.push(|text, _| text.extend_from_slice(line));
    }

    #[test]
    fn a_line_that_finds_too_many_before_it_is_counted() {
        const LINE_SIZE: usize = 1024;
        let (dropped, count) = counter();
        let (queue, waiting) = queue(1, dropped);
        let fits = WAITING_MAX / LINE_SIZE;
        (0..fits + 3).for_each(|_| say(&queue, &[b'x'; LINE_SIZE]));
        assert_eq!(count.load(Ordering::Relaxed), 3);

        // What is taken makes room again.
        let mut taken = 0;
        waiting.take_all(&mut Vec::new(), |lines| taken += lines.len());
        assert_eq!(taken, fits * LINE_SIZE);
        say(&queue, &[b'x'; LINE_SIZE]);
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_first_line_and_a_full_batch_ring_and_no_other() {
        let (queue, waiting) = queue(1, Counter::noop());
        let rung = |waiting: &Waiting| {
            let (begun, enough) = (waiting.begun.try_recv(), waiting.enough.try_recv());
            (begun.is_ok(), enough.is_ok())
        };
        say(&queue, b"one\n");
        assert_eq!(rung(&waiting), (true, false));
        say(&queue, b"two\n");
        assert_eq!(rung(&waiting), (false, false));
        say(&queue, &[b'x'; BATCH_SIZE]);
        assert_eq!(rung(&waiting), (false, true));
        say(&queue, b"three\n");
        assert_eq!(rung(&waiting), (false, false));
        waiting.take_all(&mut Vec::new(), |_| ());
        say(&queue, b"four\n");
        assert_eq!(rung(&waiting), (true, false));
    }

    #[test]
    fn a_line_is_in_the_file_though_no_other_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (log, _writer) = open(&path, AccessLogFormat::Alb);
        for wanted in 1..=3 {
            log.record(&Exchange::for_test(Instant::now()));
            let deadline = Instant::now() + PATIENCE;
            while fs::read_to_string(&path).unwrap().lines().count() < wanted {
                assert!(Instant::now() < deadline);
                thread::yield_now();
            }
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (dropped, count) = counter();
        let (queue, waiting) = queue(1, dropped);
        say(&queue, b"one\n");
        say(&queue, b"two\n");
        drop(queue);
        // Writing to a full disk fails with ENOSPC.
        let mut sink = Sink::new(Place::File(LogFile::open(Path::new("/dev/full")).unwrap()));
        write_batches(&waiting, &mut sink);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_refused() {
        let settings = model::AccessLog {
            sink: AccessLogSink::File("/no/such/folder/access.log".into()),
            format: AccessLogFormat::Alb,
        };
        let name = "shop".parse().unwrap();
        assert!(AccessLog::open(&settings, &name, 1, Counter::noop()).is_err());
    }
}
