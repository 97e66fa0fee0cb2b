//! Messages follow the assignment: which messages of a stream a worker may work on, and which of them are finished.
//!
//! Each partition is one subject of a stream. [`Delivery`] takes what its worker decides about partitions, what was
//! read of the stream and what the application has finished, and says what is to be read, handed out and stored. Like
//! [`Worker`](crate::Worker) it has no IO and no clock: it is fed an [`Event`] and the time, and asks by [`Order`]s.
//!
//! How it reads is decided by what the stream keeps. [`LogDelivery`] reads one that keeps its messages until limits remove
//! them, and keeps positions of its own. [`QueueDelivery`] has a durable consumer for each partition of a stream that
//! removes what is acknowledged: a work queue, or one with interest.
//!
//! # What holds
//!
//! | | |
//! | --- | --- |
//! | D1 | Every stored message of an owned partition is handed out at least once, in stream order. What the stream's limits removed unread is counted and said |
//! | D2 | The lowest unfinished message of a partition comes first, across moves, crashes and suspensions |
//! | D3 | One message of a partition at a time is with the application, unless it asks for more; and by the worker's own guarantee with one worker |
//! | D4 | A planned move repeats nothing. A crash repeats what was finished since the last write of the position |
//! | D5 | The position is written on the condition of the revision that was read, under the token of the hold. A former owner's write is refused, and no position moves back by itself |
//! | D6 | One tail for each worker, and one small write for each active partition and commit interval |
//! | D7 | What is held ready is bounded for each partition. A message that fails waits, and after some tries goes where dead letters go; other partitions do not wait for it |
//!
//! With a consumer for each partition, this differs:
//!
//! | | |
//! | --- | --- |
//! | D2 | A new owner pulls only after the consumer was brought back to its floor, and again whenever a [`Place`] is missed: then somebody else was served in between |
//! | D4 | A planned move waits until everything finished is acknowledged. A crash repeats what was not |
//! | D5 | An acknowledgement is no fence: that of a former owner counts, also late. It is for a message that was finished, so nothing is skipped; but the next owner may finish that message as well. A sink that takes tokens tells them apart |
//! | D6 | One consumer for each partition, and a request for each message: some hundred partitions |
//!
//! # The loop
//!
//! Feed one event, drain the orders, wait for the next event or [`poll_timeout`](LogDelivery::poll_timeout). Here the
//! stream is a list of two messages of one partition, and answers come at once:
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use parti_core::delivery::{
//!     Answer, DeliveryConfig, Ends, Event, Fetched, LogDelivery, Message, Order, Ownership, Request, Sequence,
//!     StoredPosition, StreamState, Timestamp,
//! };
//! use parti_core::{Instant, Outcome, PartitionId, Revision, Token};
//!
//! let stream: Vec<Message<&str>> = [(1, "first"), (2, "second")]
//!     .map(|(number, body)| Message {
//!         sequence: Sequence::new(number),
//!         timestamp: Timestamp::new(1_000 + number),
//!         bytes: body.len(),
//!         body,
//!     })
//!     .to_vec();
//! let orders = PartitionId::new("orders")?;
//! let mut delivery = LogDelivery::new(DeliveryConfig::new("ORDERS"), Instant::ORIGIN)?;
//! let mut events = VecDeque::from([
//!     Event::Ownership(Ownership::Acquired { partition: orders.clone(), token: Token::default() }),
//!     Event::Application(Request::Want { partition: orders.clone(), most: 1 }),
//! ]);
//! let (mut seen, mut stored) = (Vec::new(), None);
//! while let Some(event) = events.pop_front() {
//!     delivery.handle(Instant::ORIGIN, event);
//!     while let Some(order) = delivery.poll_order() {
//!         let (call, answer) = match order {
//!             Order::ReadPosition { call, .. } => (call, Answer::Position(StoredPosition::Missing)),
//!             Order::WritePosition { call, record, .. } => {
//!                 stored = Some(record.seq);
//!                 (call, Answer::Written(Outcome::Committed(Revision::new(1))))
//!             }
//!             Order::Inspect { call } => {
//!                 let (created, first, last) = (Timestamp::new(1), Sequence::new(1), Sequence::new(2));
//!                 (call, Answer::Stream(StreamState { created, first, last }))
//!             }
//!             Order::Ask { call, .. } => {
//!                 let last = vec![(orders.clone(), Sequence::new(2))];
//!                 (call, Answer::Ends(Ends { last, through: Sequence::new(2) }))
//!             }
//!             Order::Fetch { call, from, .. } => {
//!                 let messages = stream.iter().filter(|message| message.sequence >= from).copied().collect();
//!                 (call, Answer::Fetched(Fetched { messages, pending: 0 }))
//!             }
//!             Order::OpenTail { call, .. } => (call, Answer::TailOpened),
//!             Order::Hand { partition, messages, .. } => {
//!                 for handed in messages {
//!                     seen.push(handed.message.body); // the work
//!                     let through = handed.message.sequence;
//!                     events.push_back(Event::Application(Request::Finish { partition: partition.clone(), through }));
//!                 }
//!                 let next = if seen.len() < 2 { Request::Want { partition, most: 1 } } else { Request::Leave { partition } };
//!                 events.push_back(Event::Application(next));
//!                 continue;
//!             }
//!             Order::LetGo { .. } => continue, // the guard of the partition may be dropped
//!             Order::CloseTail { .. } | Order::Notice(_) => continue,
//!             _ => unreachable!("nothing fails here, and no partition has a consumer of its own"),
//!         };
//!         events.push_back(Event::Answer { call, answer });
//!     }
//! }
//! assert_eq!((seen, stored), (vec!["first", "second"], Some(Sequence::new(2))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The contract
//!
//! 1. After each [`handle`](LogDelivery::handle), drain [`poll_order`](LogDelivery::poll_order) to `None`, then arm one
//!    timer at [`poll_timeout`](LogDelivery::poll_timeout). `handle` never fails, blocks or panics.
//! 2. Each order that has a call gets exactly one [`Answer`], within a time that the caller bounds. A write without a
//!    certain outcome is [`Outcome::Unknown`](crate::Outcome::Unknown).
//! 3. A [fetch](Order::Fetch) shows *all* that some replica has of the partition from the number that it names, in order,
//!    up to where it stops. A [tail](Order::OpenTail) shows all of its partitions from the number that it was opened at,
//!    in order, as long as it says anything. To show a message twice does no harm.
//! 4. An [answer](Answer::Ends) about last messages speaks of one moment of one replica.
//! 5. The position is read from the leader of its bucket, and so is the state of the stream.
//! 6. What the worker decides comes in its order: a hold ends before the next begins. Nothing is written while the
//!    worker has no right to act ([`Ownership::Suspended`]), and a guard is dropped only after [`Order::LetGo`] or
//!    [`Order::Stop`], or once its hold has ended anyway.
//! 7. The application [finishes](Request::Finish) or [returns](Request::Return) what it was handed, and
//!    [leaves](Request::Leave) in the end.

mod acks;
mod agenda;
mod any;
mod consumer;
mod durable;
mod event;
mod fit;
mod handler;
mod hold;
mod inbox;
mod lane;
mod log;
mod message;
mod order;
mod position;
mod progress;
mod queue;
mod queue_lane;
mod reads;
mod scope;
mod settings;
mod solitude;
mod status;
mod stream;
mod tails;
mod work;

pub use crate::ids::{CallId, Place, Sequence, Timestamp};
pub use any::Delivery;
pub use consumer::{ConsumerState, PullEnd, Pulled};
pub use event::{Answer, Ends, Event, Fetched, Ownership, Request, StoredPosition, StreamState, TailNews};
pub use handler::{Lost, PartitionMessage, PartitionMessages};
pub use log::LogDelivery;
pub use message::{Handed, Message};
pub use order::{Misfit, Notice, Order, StopReason};
pub use position::{Failed, PositionRecord};
pub use queue::QueueDelivery;
pub use settings::{DeliveryConfig, DeliveryConfigError, Engine, Policy, StartAt};
pub use status::LaneStatus;
