//! The durable consumer of each partition, on a stream that removes what is acknowledged or what nobody waits for.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, Subject};
use futures_util::future::join_all;
use parti_core::delivery::{Answer, CallId, ConsumerState, Order, Place, Sequence, Timestamp};
use parti_core::{GroupName, PartitionId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::delivery::message::Body;
use crate::delivery::pull::Wanted;
use crate::delivery::template::{Template, name_part};
use crate::server;

/// The longest name that a server gives to a consumer.
const MAX_NAME_BYTES: usize = 255;
/// After this the server delivers again what is not acknowledged. Nobody waits for it: a new owner brings the consumer back to
/// its floor.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// As many messages as it takes may be delivered and not acknowledged: how many are read in advance is bounded here.
const UNBOUNDED: i64 = -1;
/// The stream or the account may have no more consumers.
const TOO_MANY: ErrorCode = ErrorCode::MAXIMUM_CONSUMERS_LIMIT;
/// A work queue takes one consumer of a subject.
const OVERLAPS: ErrorCode = ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE;

/// Carries out what delivery asks of the consumers of partitions. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Durables {
    context: Context,
    client: Client,
    stream: String,
    group: GroupName,
    template: Template,
    timeout: Duration,
}

/// The answer to a request that asks for nothing but to be done.
#[derive(Deserialize)]
struct Done {}

/// The names of a stream's consumers, from some place on.
#[derive(Deserialize)]
struct Names {
    total: usize,
    consumers: Option<Vec<String>>,
}

/// Why something that was asked for is not there.
enum Refusal {
    /// There is no such consumer.
    Missing,
    /// Another consumer has the messages.
    Overlaps(String),
    /// A person must change something.
    Unfit(String),
    /// No answer, or one that may be another the next time.
    Failed(String),
}

impl Durables {
    pub(crate) fn new(
        context: &Context,
        stream: &str,
        group: &GroupName,
        template: &Template,
        timeout: Duration,
    ) -> Self {
        let (context, client) = (context.clone(), context.client());
        let (stream, group, template) = (stream.to_owned(), group.clone(), template.clone());
        Self { context, client, stream, group, template, timeout }
    }

    /// The answer to an order about a consumer, and to whom; none to another one.
    pub(crate) async fn answer(&self, order: Order<Body>) -> Option<(CallId, Answer<Body>)> {
        let (call, told) = match order {
            Order::FindConsumer { call, partition, created } => (call, self.find(&partition, created).await),
            Order::CreateConsumer { call, partition, created, replaces } => {
                (call, self.create(&partition, created, replaces).await)
            }
            Order::RestoreConsumer { call, partition, created } => (call, self.restore(&partition, created).await),
            _ => return None,
        };
        let answer = match told {
            Ok(info) => Answer::Consumer(state(&info)),
            Err(Refusal::Missing) => Answer::NoConsumer,
            Err(Refusal::Unfit(reason) | Refusal::Overlaps(reason)) => Answer::Unfit { reason },
            Err(Refusal::Failed(reason)) => Answer::Failed { reason },
        };
        Some((call, answer))
    }

    /// What a pull of a partition's messages needs to know, from its consumer of the stream that was made then.
    pub(crate) fn wanted(
        &self,
        call: CallId,
        (partition, created): (PartitionId, Timestamp),
        most: u32,
        bytes: Option<usize>,
        time: Duration,
    ) -> Wanted {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name(&partition, created));
        let (client, timeout) = (self.client.clone(), self.timeout);
        Wanted { client, call, partition, subject, most, bytes, time, timeout }
    }

    /// Acknowledges deliveries, each as a request: what is not answered is not known to be acknowledged.
    pub(crate) async fn acknowledge(&self, call: CallId, replies: Vec<Subject>) -> (CallId, Answer<Body>) {
        let asked = replies.into_iter().map(|reply| self.client.request(reply, "+ACK".into()));
        let failed = |reason: String| Answer::Failed { reason };
        let answer = match tokio::time::timeout(self.timeout, join_all(asked)).await {
            Ok(answers) => match answers.into_iter().find_map(Result::err) {
                None => Answer::Acknowledged,
                Some(error) => failed(error.to_string()),
            },
            Err(_) => failed("no answer came in time".into()),
        };
        (call, answer)
    }

    /// Tells the server that work on these deliveries goes on.
    pub(crate) async fn extend(&self, replies: Vec<Subject>) {
        for reply in replies {
            // An error means that the connection is closed: nothing is delivered by it any more.
            let _ = self.client.publish(reply, "+WPI".into()).await;
        }
    }

    async fn find(&self, partition: &PartitionId, created: Timestamp) -> Result<Info, Refusal> {
        let name = self.checked_name(partition, created)?;
        let info = self.ask(format!("CONSUMER.INFO.{}.{name}", self.stream), &serde_json::json!({})).await?;
        fits(&info, &self.template.subject(partition)).map_err(Refusal::Unfit)?;
        Ok(info)
    }

    /// Creates the consumer, and deletes those that the partition has under other names.
    ///
    /// A work queue takes no second consumer of a subject, so that the others go first there. Elsewhere they go last, since what
    /// no consumer waits for is removed.
    async fn create(&self, partition: &PartitionId, created: Timestamp, replaces: bool) -> Result<Info, Refusal> {
        match self.create_one(partition, created).await {
            Err(Refusal::Overlaps(_)) => {
                self.delete_others(partition, created).await?;
                self.create_one(partition, created).await
            }
            Ok(info) if replaces => self.delete_others(partition, created).await.map(|()| info),
            told => told,
        }
    }

    async fn create_one(&self, partition: &PartitionId, created: Timestamp) -> Result<Info, Refusal> {
        let name = self.checked_name(partition, created)?;
        let filter_subject = self.template.subject(partition);
        let subject = format!("CONSUMER.CREATE.{}.{name}.{filter_subject}", self.stream);
        let config = Config {
            name: Some(name.clone()),
            durable_name: Some(name),
            description: Some("delivers the messages of one partition to the parti worker that owns it".into()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: UNBOUNDED,
            filter_subject,
            ..Config::default()
        };
        let asked = serde_json::json!({ "stream_name": self.stream, "config": config, "action": "create" });
        self.ask(subject, &asked).await
    }

    /// Deletes the consumers of a partition that have another name, which are of streams that were made at other times. O(C).
    async fn delete_others(&self, partition: &PartitionId, created: Timestamp) -> Result<(), Refusal> {
        let own = self.name(partition, created);
        let mut all = Vec::new();
        loop {
            let asked = serde_json::json!({ "offset": all.len() });
            let page: Names = self.ask(format!("CONSUMER.NAMES.{}", self.stream), &asked).await?;
            let names = page.consumers.unwrap_or_default();
            let is_last = names.is_empty() || all.len() + names.len() >= page.total;
            all.extend(names);
            if is_last {
                break;
            }
        }
        for other in all.iter().filter(|name| **name != own && self.is_of(name, partition)) {
            self.delete(other).await?;
        }
        Ok(())
    }

    /// Deletes a consumer, if it is there.
    async fn delete(&self, name: &str) -> Result<(), Refusal> {
        match self.ask::<Done>(format!("CONSUMER.DELETE.{}.{name}", self.stream), &serde_json::json!({})).await {
            Ok(_) | Err(Refusal::Missing) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Brings the consumer back to its floor.
    ///
    /// Before servers can do so, it is deleted and created: what a work queue has is what was never acknowledged, and a new
    /// consumer delivers all of it. Requests that wait at the old one end with it.
    async fn restore(&self, partition: &PartitionId, created: Timestamp) -> Result<Info, Refusal> {
        let name = self.checked_name(partition, created)?;
        if server::resets_consumers(&self.client.server_info()) {
            let _: Done = self.ask(format!("CONSUMER.RESET.{}.{name}", self.stream), &serde_json::json!({})).await?;
            return self.find(partition, created).await;
        }
        self.delete(&name).await?;
        self.create_one(partition, created).await
    }

    async fn ask<T: DeserializeOwned>(&self, subject: String, asked: &serde_json::Value) -> Result<T, Refusal> {
        let answer = tokio::time::timeout(self.timeout, self.context.request(subject, asked)).await;
        match answer.map_err(|_| Refusal::Failed("no answer came in time".into()))? {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(refused(&error)),
            Err(error) => Err(Refusal::Failed(error.to_string())),
        }
    }

    fn checked_name(&self, partition: &PartitionId, created: Timestamp) -> Result<String, Refusal> {
        let name = self.name(partition, created);
        if name.len() <= MAX_NAME_BYTES {
            return Ok(name);
        }
        let rule = format!("its name must have at most {MAX_NAME_BYTES} characters");
        Err(Refusal::Unfit(format!("{rule}, but {name} has {}: shorten the partition's id", name.len())))
    }

    /// The name of a partition's consumer of the stream that was made then. A group's name has no `=`, nor has a number, so that
    /// no two partitions of two groups share one.
    pub(super) fn name(&self, partition: &PartitionId, created: Timestamp) -> String {
        format!("parti_{}={:x}={}", self.group, created.value(), name_part(partition))
    }

    /// Whether a name is that of a consumer of this partition, of whichever stream.
    fn is_of(&self, name: &str, partition: &PartitionId) -> bool {
        let rest = name.strip_prefix("parti_").and_then(|name| name.strip_prefix(self.group.as_str()));
        let parts = rest.and_then(|rest| rest.strip_prefix('=')).and_then(|rest| rest.split_once('='));
        parts.is_some_and(|(created, part)| u64::from_str_radix(created, 16).is_ok() && part == name_part(partition))
    }
}

fn refused(error: &async_nats::jetstream::Error) -> Refusal {
    match error.error_code() {
        ErrorCode::CONSUMER_NOT_FOUND => Refusal::Missing,
        OVERLAPS => Refusal::Overlaps(format!(
            "the stream must have no other consumer with the partition's subject, but has one ({error}): delete that"
        )),
        TOO_MANY => Refusal::Unfit(format!(
            "the stream or the account must take one consumer for each partition, but is full ({error}): raise max_consumers, or use fewer partitions"
        )),
        _ => Refusal::Failed(error.to_string()),
    }
}

/// Whether a consumer that was found delivers what this one would.
fn fits(info: &Info, subject: &str) -> Result<(), String> {
    let config = &info.config;
    let filters = if config.filter_subjects.is_empty() {
        vec![config.filter_subject.as_str()]
    } else {
        config.filter_subjects.iter().map(String::as_str).collect()
    };
    let fix = format!("delete the consumer {}, which is then made anew", info.name);
    if filters != [subject] {
        return Err(format!("it must filter by {subject}, but does by {}: {fix}", filters.join(", ")));
    }
    if config.ack_policy != AckPolicy::Explicit {
        return Err(format!("each message must be acknowledged, but its policy is {:?}: {fix}", config.ack_policy));
    }
    if config.deliver_subject.is_some() {
        return Err(format!("it must be pulled from, but pushes: {fix}"));
    }
    if config.max_deliver > 0 {
        return Err(format!("it must deliver as often as it takes, but does so {} times: {fix}", config.max_deliver));
    }
    Ok(())
}

fn state(info: &Info) -> ConsumerState {
    ConsumerState {
        delivered: Place::new(info.delivered.consumer_sequence),
        through: Sequence::new(info.delivered.stream_sequence),
        floor: Sequence::new(info.ack_floor.stream_sequence),
        unacknowledged: info.num_ack_pending as u64,
        pending: info.num_pending,
        ack_wait: info.config.ack_wait,
    }
}
