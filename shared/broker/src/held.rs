//! One message at a time, by asking: for queues in which work waits for a right that is granted first.
//!
//! Guarantee: the same as in a consume loop. A [`Held`] that is dropped without being settled goes back to its
//! queue at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::options::{BasicGetOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel};
use photofinish_runtime::Tasks;
use tokio::sync::Mutex;

use crate::connection::{Link, while_alive};
use crate::consumer::process_span;
use crate::error::GetError;
use crate::incoming::Incoming;
use crate::settle::{Disposition, Received, Settler};

/// A message in hand.
#[derive(Debug)]
pub struct Held {
    incoming: Incoming,
    acker: Option<Acker>,
    settler: Settler,
    tasks: Tasks,
    left: u32,
}

impl Held {
    /// How many messages its queue had left when it was taken.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The message.
    pub fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// The span in which it is to be handled: a child of its publisher's.
    pub fn span(&self) -> tracing::Span {
        process_span(self.settler.queue, &self.incoming)
    }

    /// Carries the disposition out; false when the acknowledgement did not arrive and the message will come again.
    pub async fn settle(mut self, disposition: Disposition) -> bool {
        // Taken only at the end: a settling that is cut short lets the message go.
        let Some(acker) = self.acker.clone() else {
            return false;
        };
        let settling = self.settler.settle(&self.incoming, &acker, disposition);
        let settled = match settling.await {
            Some(label) => self.settler.ack(&acker, label).await,
            None => false,
        };
        self.acker = None;
        settled
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(acker) = self.acker.take() else {
            return;
        };
        tracing::warn!(queue = %self.settler.queue, "a message was let go unsettled");
        // The exception to "never nack": an unsettled message of a channel that lives on would wait for its end.
        let options = BasicNackOptions {
            requeue: true,
            ..Default::default()
        };
        drop(
            self.tasks
                .spawn("broker.let_go", async move { acker.nack(options).await }),
        );
    }
}

/// Questions that are under way at once. A quorum queue writes down whom it gives a message to before it answers, so one
/// question after the other would be some fifty messages a second.
pub const GETS_MAX: usize = 8;

/// The channels on which messages are asked for.
#[derive(Debug)]
pub(crate) struct Getter {
    pub(crate) link: Link,
    pub(crate) tasks: Tasks,
    /// On each it is asked for and answered one after the other: lapin knows one answer at a time.
    pub(crate) channels: [Mutex<Option<Channel>>; GETS_MAX],
    pub(crate) next: AtomicUsize,
}

impl Getter {
    /// The next message of a queue that is ready for a handler; `None` when there is none.
    pub(crate) async fn get(&self, settler: Settler) -> Result<Option<Held>, GetError> {
        let queue = settler.queue;
        loop {
            let ask = async |channel: Channel, name: ShortString| {
                channel.basic_get(name, BasicGetOptions::default()).await
            };
            let Some(mut message) = self.ask(queue.to_string(), ask).await? else {
                return Ok(None);
            };
            let left = message.message_count;
            let delivery = &mut message.delivery;
            let incoming = Incoming::read(delivery, Some(queue), settler.publisher.user());
            let acker = delivery.acker.clone();
            match settler.receive(incoming, &acker).await {
                Received::Handle(incoming) => {
                    let tasks = self.tasks.clone();
                    return Ok(Some(Held {
                        incoming,
                        acker: Some(acker),
                        settler,
                        tasks,
                        left,
                    }));
                }
                Received::Settled(Some(label)) => {
                    let _acknowledged = settler.ack(&acker, label).await;
                }
                Received::Settled(None) => {}
            }
        }
    }

    /// How many messages wait in a queue.
    pub(crate) async fn depth(&self, queue: String) -> Result<u32, GetError> {
        let ask = async |channel: Channel, name: ShortString| {
            let options = QueueDeclareOptions {
                passive: true,
                ..Default::default()
            };
            channel
                .queue_declare(name, options, FieldTable::default())
                .await
        };
        Ok(self.ask(queue, ask).await?.message_count())
    }

    /// One question on the channel, which is made anew when it is gone.
    async fn ask<T>(
        &self,
        name: String,
        question: impl AsyncFnOnce(Channel, ShortString) -> lapin::Result<T>,
    ) -> Result<T, GetError> {
        let away = || GetError::Away {
            queue: name.clone(),
        };
        let connection = self.link.now().ok_or_else(away)?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % GETS_MAX;
        let mut slot = self.channels[turn].lock().await;
        let answer = async {
            let channel = match slot.take().filter(|channel| channel.status().connected()) {
                Some(channel) => channel,
                None => connection.create_channel().await?,
            };
            let answer = question(channel.clone(), name.as_str().into()).await?;
            // Put back only after an answer: one that is owed would be taken for the next question's.
            *slot = Some(channel);
            Ok(answer)
        };
        let answer = while_alive(&connection, answer).await.ok_or_else(away)?;
        answer.map_err(|source| GetError::Refused {
            queue: name.clone(),
            source,
        })
    }
}

/// Shared by clones of the broker.
pub(crate) type SharedGetter = Arc<Getter>;
