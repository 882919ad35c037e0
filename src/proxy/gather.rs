//! Small writes in one piece.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Up to so many bytes, copying them together costs less than what the kernel takes longer for `writev(2)` than for
/// `send(2)`: a head and a short body, or a chunk of an event stream.
const SMALL: usize = 2048;

/// A stream that writes what is small in one piece, however many it comes in.
#[derive(Debug)]
pub(super) struct Gather<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [slice] = slices {
            return Pin::new(&mut self.0).poll_write(context, slice);
        }
        let mut together = [0; SMALL];
        let mut length = 0;
        for slice in slices {
            match together.get_mut(length..length + slice.len()) {
                Some(place) => place.copy_from_slice(slice),
                None => return Pin::new(&mut self.0).poll_write_vectored(context, slices),
            }
            length += slice.len();
        }
        Pin::new(&mut self.0).poll_write(context, &together[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn every_byte_leaves_in_its_order() {
        for sizes in [[3, 5], [SMALL - 1, 1], [SMALL, 1], [10 * SMALL, 7]] {
            let (one, mut other) = tokio::io::duplex(100 * SMALL);
            let mut stream = Gather(one);
            let parts = sizes.map(|size| vec![u8::try_from(size % 251).unwrap(); size]);
            let slices = parts.each_ref().map(|part| IoSlice::new(part));
            let mut sent = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &slices))
                .await
                .unwrap();
            let whole = parts.concat();
            while sent < whole.len() {
                let rest = &whole[sent..];
                sent += std::future::poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, rest)).await.unwrap();
            }
            drop(stream);
            let mut seen = Vec::new();
            other.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, whole);
        }
    }
}
