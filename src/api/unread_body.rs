//! Keeps the request body alive until the answer is out.
//!
//! An answer that comes before the body was read (401 to a push without a token) must close the
//! connection, or the client would send its next request behind bytes that nobody reads. actix-http
//! closes it, and reads on for a while so that the client sees the answer, if somebody still holds the
//! payload. If it was dropped and the body is chunked, it means to drain the rest instead, and in version
//! 3.20 stops after one buffer: the connection then hangs for ever.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage as _,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
};
use bytes::Bytes;
use futures::Stream;

/// Holds a request's payload.
pub struct HeldBody {
    _payload: Rc<RefCell<Payload>>,
    read_bytes: Rc<Cell<u64>>,
}

impl HeldBody {
    /// Gives the request a view of its payload, and keeps the payload.
    pub fn of(request: &mut ServiceRequest) -> Self {
        let payload = Rc::new(RefCell::new(request.take_payload()));
        let read_bytes = Rc::new(Cell::new(0));
        let view: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> = Box::pin(View {
            payload: Rc::clone(&payload),
            read_bytes: Rc::clone(&read_bytes),
        });
        request.set_payload(view.into());
        Self {
            _payload: payload,
            read_bytes,
        }
    }

    /// How many bytes of it were read. A chunked body announces no length, so it is counted.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.get()
    }
}

struct View {
    payload: Rc<RefCell<Payload>>,
    read_bytes: Rc<Cell<u64>>,
}

impl Stream for View {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut *self.payload.borrow_mut()).poll_next(context);
        if let Poll::Ready(Some(Ok(piece))) = &polled {
            self.read_bytes
                .set(self.read_bytes.get() + piece.len() as u64);
        }
        polled
    }
}
