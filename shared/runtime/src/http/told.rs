//! A stream on which the HTTP library's own refusals become problem documents.
//!
//! Guarantee: who is refused so is also listened to for a moment after the answer. Without that the system resets a
//! connection of which not all was read, and the reset may overtake the answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::refusals::instead_of;

/// So long is listened to after a refusal, and for so many bytes.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A stream to one client.
#[derive(Debug)]
pub(super) struct Told<S> {
    inner: S,
    /// What is left of a refusal.
    owed: &'static [u8],
    /// After a refusal.
    lingering: Option<Lingering>,
}

/// What is still taken of a client that was refused.
#[derive(Debug)]
struct Lingering {
    end: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<S> Told<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            owed: &[],
            lingering: None,
        }
    }
}

impl<S: AsyncRead + Unpin> Told<S> {
    /// Ready when the client has ended, or was listened to for long enough.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(lingering) = &mut self.lingering else {
            return Poll::Ready(());
        };
        let mut block = [0; 4096];
        while lingering.bytes < LINGER_BYTES_MAX
            && lingering.end.as_mut().poll(context).is_pending()
        {
            let mut buffer = ReadBuf::new(&mut block);
            let read = ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            lingering.bytes += buffer.filled().len();
        }
        self.lingering = None;
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let told = &mut *self;
        if told.owed.is_empty() {
            let Some(refusal) = instead_of(bytes) else {
                return Pin::new(&mut told.inner).poll_write(context, bytes);
            };
            told.owed = refusal;
            told.lingering = Some(Lingering {
                end: Box::pin(tokio::time::sleep(LINGER)),
                bytes: 0,
            });
        }
        while !told.owed.is_empty() {
            let taken = ready!(Pin::new(&mut told.inner).poll_write(context, told.owed))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            told.owed = &told.owed[taken..];
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut whole = pieces.iter().filter(|piece| !piece.is_empty());
        if let (Some(piece), None) = (whole.next(), whole.next()) {
            return self.poll_write(context, piece);
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
        self.poll_linger(context).map(Ok)
    }
}
