//! A connection whose bytes are watched, and whose answers are problem documents even where HTTP itself fails.
//!
//! What is no HTTP, or has too long a head, never reaches the API: hyper answers it with a bare status line. [`Watched`]
//! puts the problem document in the place of it. The API's own answers are told by their request id.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::pace::Pace;
use crate::api::{Word, unread};

/// A connection.
pub(super) struct Watched<S> {
    inner: S,
    pace: Arc<Pace>,
    /// What is sent in the place of a bare answer.
    own: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    pub(super) fn new(inner: S, pace: Arc<Pace>) -> Self {
        Self { inner, pace, own: Vec::new() }
    }

    /// Answers that a request did not come in time, as far as that goes without waiting for the client, and closes.
    pub(super) async fn too_slow(mut self) {
        let problem = document("HTTP/1.1 408 Request Timeout\r\n", Word::RequestTimeout);
        if self.inner.write_all(&problem).await.is_ok() {
            let _ = self.inner.shutdown().await;
        }
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.own))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(self.own.drain(..written)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pace.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_own(cx))?;
        if let Some(problem) = instead_of(bytes) {
            self.own = problem;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        ready!(self.poll_own(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.pace.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The problem document for a bare answer of HTTP itself; nothing for every other answer.
fn instead_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(bytes.strip_suffix(b"\r\n\r\n")?).ok()?;
    let (status, fields) = head.split_once("\r\n")?;
    let word = match status.strip_prefix("HTTP/1.1 ").or_else(|| status.strip_prefix("HTTP/1.0 "))?.get(..3)? {
        "400" => Word::BadRequest,
        "414" => Word::PathTooLong,
        "431" => Word::HeadTooLarge,
        _ => return None,
    };
    // An answer of the API has its request id, and a body.
    let bare = fields.lines().all(|line| !line.starts_with("x-request-id:")) && fields.contains("content-length: 0");
    let date = fields.lines().find(|line| line.starts_with("date:")).map(|line| format!("{line}\r\n"));
    bare.then(|| document(&format!("{status}\r\n{}", date.unwrap_or_default()), word))
}

/// A whole answer for a request that was never read; the connection ends with it.
fn document(head: &str, word: Word) -> Vec<u8> {
    let (id, body) = unread(word);
    tracing::info!(id, problem = word.as_str(), "answered what is no request");
    let length = body.len();
    let mut answer = format!(
        "{head}content-type: application/problem+json\r\ncache-control: no-store\r\nx-request-id: {id}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    )
    .into_bytes();
    answer.extend(body);
    answer
}

/// The body of an answer, which tells when all of it was given.
pub(super) struct Answer {
    body: axum::body::Body,
    pace: Arc<Pace>,
}

impl Answer {
    pub(super) fn new(body: axum::body::Body, pace: Arc<Pace>) -> Self {
        pace.answer();
        Self { body, pace }
    }
}

impl Body for Answer {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.pace.given();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_answer_is_replaced() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
                    date: Tue, 24 Nov 2026 13:00:00 GMT\r\n\r\n";
        let answer = String::from_utf8(instead_of(bare.as_bytes()).expect("bare")).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\ndate: Tue, 24 Nov 2026 13:00:00 GMT")
        );
        let problem: eds_core::api::Problem = serde_json::from_str(body).expect("JSON");
        assert_eq!((problem.word(), problem.status), ("head-too-large", 431));
        assert!(head.contains(&format!("\r\nx-request-id: {}\r\n", problem.instance.expect("an id"))));
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())));
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nx-request-id: 00\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore",
            "",
        ] {
            assert_eq!(instead_of(other.as_bytes()), None, "{other:?}");
        }
    }
}
