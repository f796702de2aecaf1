//! Keeps the request body alive until the answer is out.
//!
//! An answer that comes before the body was read (401 to a push without a token) must close the
//! connection, or the client would send its next request behind bytes that nobody reads. actix-http
//! closes it, and reads on for a while so that the client sees the answer, if somebody still holds the
//! payload. If it was dropped and the body is chunked, it means to drain the rest instead, and in version
//! 3.20 stops after one buffer: the connection then hangs for ever.

use std::{
    cell::RefCell,
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
}

impl HeldBody {
    /// Gives the request a view of its payload, and keeps the payload.
    pub fn of(request: &mut ServiceRequest) -> Self {
        let payload = Rc::new(RefCell::new(request.take_payload()));
        let view: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> =
            Box::pin(View(Rc::clone(&payload)));
        request.set_payload(view.into());
        Self { _payload: payload }
    }
}

struct View(Rc<RefCell<Payload>>);

impl Stream for View {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}
