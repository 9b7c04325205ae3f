//! A stream that ends when nothing passes either way for too long.
//!
//! Guarantee: a byte read or written puts the end off; who neither sends nor takes anything gets
//! `TimedOut`. After a stop the end is nearer, and only bytes written put it off: what is under way
//! is finished, and nobody holds the stop up by beginning something.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream with a limit on silence.
#[derive(Debug)]
pub(crate) struct Idle<S> {
    inner: S,
    limit: Duration,
    end: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping_limit: Duration,
    stopping: bool,
}

impl<S> Idle<S> {
    /// The first byte must pass within `limit`, too; `stopping_limit` counts after `stop`.
    pub(crate) fn new(
        inner: S,
        limit: Duration,
        stop: CancellationToken,
        stopping_limit: Duration,
    ) -> Self {
        Self {
            inner,
            limit,
            end: Box::pin(tokio::time::sleep(limit)),
            stop: Box::pin(stop.cancelled_owned()),
            stopping_limit,
            stopping: false,
        }
    }

    fn put_off(&mut self) {
        let end = Instant::now() + self.limit;
        self.end.as_mut().reset(end);
    }

    /// What the inner stream said, unless it said "wait" for too long.
    fn within<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        puts_off: bool,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if puts_off {
                self.put_off();
            }
            return polled;
        }
        if !self.stopping && self.stop.as_mut().poll(context).is_ready() {
            self.stopping = true;
            self.limit = self.limit.min(self.stopping_limit);
            self.put_off();
        }
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Idle<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let puts_off = !self.stopping;
        self.within(context, polled, puts_off)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Idle<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.within(context, polled, true)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.within(context, polled, true)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // No bytes pass by a flush that has nothing to do: it puts nothing off.
        match Pin::new(&mut self.inner).poll_flush(context) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.within(context, Poll::Pending, false),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(context);
        self.within(context, polled, false)
    }
}
