//! Subscriptions as streams.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::{Client, ClientError};
use crate::protocol::{Event, Unsubscribe};

/// How something stands, and then every change. It is a [`Stream`], and has a [`next`](Self::next) of its own.
/// Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    number: u64,
    events: mpsc::UnboundedReceiver<Event>,
    /// The end of the connection was told.
    over: bool,
}

impl Subscription {
    pub(super) const fn new(client: Client, number: u64, events: mpsc::UnboundedReceiver<Event>) -> Self {
        Self { client, number, events, over: false }
    }

    /// The next event; an error when the connection is lost, and `None` after that.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Subscription {
    type Item = Result<Event, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(Ok(event))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) if self.over => Poll::Ready(None),
            Poll::Ready(None) => {
                self.over = true;
                Poll::Ready(self.client.inner.shared.ended().map(Err))
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let shared = &self.client.inner.shared;
        shared.forget(self.number);
        // Where the connection is lost the subscription is over anyway.
        let _gone = self.client.begin(Unsubscribe { subscription: self.number });
    }
}
