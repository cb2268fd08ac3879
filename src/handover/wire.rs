//! How the two processes talk: a length and that many bytes of JSON, descriptors behind it by SCM_RIGHTS.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Largest message, in bytes: 100,000 targets take half of it.
const MESSAGE_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Most descriptors of one message: 250 listeners on 64 workers.
const DESCRIPTORS_MAX: usize = 16_000;

/// Most descriptors that travel with one byte; Linux takes 253 (`SCM_MAX_FD`).
const DESCRIPTORS_AT_ONCE: usize = 64;

const SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE));

/// Why nothing could be said or heard. What was said is not repeated here: keys are among it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the other process has gone")]
    Closed,
    #[error("what the other process says is not understood")]
    NotUnderstood,
    #[error("the other process cannot be talked to: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// One end of the private socket between two processes.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

/// What goes over the line.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    message: T,
    /// How many follow.
    descriptors: usize,
}

impl Line {
    /// Needs a runtime.
    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(stream)?))
    }

    pub(super) async fn say(&mut self, message: impl Serialize) -> Result<(), Broken> {
        self.hand_over(message, &[]).await
    }

    /// Says something and hands descriptors over; they stay open here too.
    pub(super) async fn hand_over(
        &mut self,
        message: impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Broken> {
        let bytes = encoded(message, descriptors.len())?;
        self.0.write_all(&bytes).await?;
        for some in descriptors.chunks(DESCRIPTORS_AT_ONCE) {
            let send = || {
                let mut space = [MaybeUninit::uninit(); SPACE];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fits = control.push(SendAncillaryMessage::ScmRights(some));
                debug_assert!(fits, "the space was made for as many");
                let flags = SendFlags::NOSIGNAL;
                Ok(sendmsg(
                    &self.0,
                    &[IoSlice::new(&[0])],
                    &mut control,
                    flags,
                )?)
            };
            self.0.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// What the other process says, and the descriptors that it hands over.
    pub(super) async fn hear<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), Broken> {
        let length = self.0.read_u32().await? as usize;
        if length > MESSAGE_SIZE_MAX {
            return Err(Broken::NotUnderstood);
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await?;
        let envelope: Envelope<T> =
            serde_json::from_slice(&bytes).map_err(|_| Broken::NotUnderstood)?;
        if envelope.descriptors > DESCRIPTORS_MAX {
            return Err(Broken::NotUnderstood);
        }
        let mut descriptors = Vec::with_capacity(envelope.descriptors);
        while descriptors.len() < envelope.descriptors {
            let some = self
                .0
                .async_io(Interest::READABLE, || receive(&self.0))
                .await?;
            descriptors.extend(some.ok_or(Broken::NotUnderstood)?);
        }
        Ok((envelope.message, descriptors))
    }
}

/// Some descriptors with their byte; none where they were cut off, as by a limit of open files.
fn receive(stream: &UnixStream) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(stream, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => rights.collect(),
        _ => Vec::new(),
    });
    let rights: Vec<OwnedFd> = rights.collect();
    let whole = !received.flags.contains(ReturnFlags::CTRUNC) && !rights.is_empty();
    Ok(whole.then_some(rights))
}

fn encoded(message: impl Serialize, descriptors: usize) -> Result<Vec<u8>, Broken> {
    let envelope = Envelope {
        message,
        descriptors,
    };
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, &envelope).map_err(|_| Broken::NotUnderstood)?;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| Broken::NotUnderstood)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, Write};
    use std::os::fd::AsFd;

    use super::*;

    fn line() -> (Line, Line) {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        (Line::new(one).unwrap(), Line::new(other).unwrap())
    }

    #[tokio::test]
    async fn descriptors_of_any_number_arrive_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = |number: usize| {
            let mut file = File::create_new(folder.path().join(number.to_string())).unwrap();
            write!(file, "{number}").unwrap();
            file
        };
        let (mut one, mut other) = line();
        for count in [0, 1, DESCRIPTORS_AT_ONCE, 2 * DESCRIPTORS_AT_ONCE + 1] {
            let files: Vec<File> = (0..count).map(file).collect();
            let files: Vec<_> = files.iter().map(File::as_fd).collect();
            one.hand_over("take these", &files).await.unwrap();
            one.say("and go").await.unwrap();
            let (words, descriptors) = other.hear::<String>().await.unwrap();
            assert_eq!((words.as_str(), descriptors.len()), ("take these", count));
            for (number, descriptor) in descriptors.into_iter().enumerate() {
                let path = folder.path().join(number.to_string());
                let mut file = File::from(descriptor);
                file.write_all(b".").unwrap();
                assert_eq!(
                    file.stream_position().unwrap(),
                    number.to_string().len() as u64 + 1
                );
                std::fs::remove_file(path).unwrap();
            }
            assert_eq!(other.hear::<String>().await.unwrap().0, "and go");
        }
    }

    #[tokio::test]
    async fn an_end_is_an_end_wherever_it_comes() {
        let whole = encoded("take these", 1).unwrap();
        for length in 0..=whole.len() {
            let (mut one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            one.write_all(&whole[..length]).unwrap();
            drop(one);
            let heard = Line::new(other).unwrap().hear::<String>().await;
            assert!(matches!(heard, Err(Broken::Closed)), "{length}");
        }
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_not_repeated() {
        let promised = encoded("descriptors", 1).unwrap();
        let too_many = encoded("descriptors", DESCRIPTORS_MAX + 1).unwrap();
        let huge = u32::MAX.to_be_bytes().to_vec();
        let other_type = encoded(["secret"], 0).unwrap();
        for bytes in [[promised, vec![0]].concat(), too_many, huge, other_type] {
            let (mut one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            one.write_all(&bytes).unwrap();
            let heard = Line::new(other).unwrap().hear::<String>().await;
            let error = heard.unwrap_err();
            assert!(matches!(error, Broken::NotUnderstood), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }
}
