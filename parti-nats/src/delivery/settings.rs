//! What a service says of the messages that it wants.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream;
use parti_core::delivery::{DeliveryConfig, Engine, Policy, StartAt};
use parti_core::{GroupName, PartitionId};

use crate::bucket::Names;
use crate::clock;
use crate::delivery::allowed;
use crate::delivery::consumer::Consumer;
use crate::delivery::error::DeliveryError;
use crate::delivery::kept::{Given, PositionStore};
use crate::delivery::store::Store;
use crate::delivery::template::Template;
use crate::handle::Handle;
use crate::permissions::Permissions;

/// What messages follow the assignment of a worker, and how; see [`Consumer`] for the shortest use.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(crate) template: String,
    pub(crate) config: DeliveryConfig,
    pub(crate) engine: Option<Engine>,
    pub(crate) dead_letters: Option<String>,
    pub(crate) positions: Option<Given>,
    pub(crate) replicas: usize,
    pub(crate) timeout: Duration,
    patience: Duration,
}

/// The mean wait between two tries to begin.
const BETWEEN_TRIES: Duration = Duration::from_millis(250);

impl Delivery {
    /// The messages of `stream`, where the partition `eu` has the subject that `template` says: with `orders.{partition}` that
    /// is `orders.eu`. `{partition}` stands for one part of the subject; `orders.{partition}.>` gives each partition a tree of
    /// subjects. An id that cannot be a part is written as [`subject_of`](Self::subject_of) says.
    pub fn new(stream: impl Into<String>, template: impl Into<String>) -> Self {
        Self {
            template: template.into(),
            config: DeliveryConfig::new(stream),
            engine: None,
            dead_letters: None,
            positions: None,
            replicas: 1,
            timeout: Duration::from_secs(5),
            patience: Duration::from_secs(30),
        }
    }

    /// The subject to publish a message of `partition` to: that of the template, where `.`, `*`, `>`, `%`, spaces and control
    /// characters in the id are written as `%` and two hexadecimal digits for each byte.
    ///
    /// # Errors
    ///
    /// [`DeliveryError::Template`] if the template is none.
    ///
    /// ```
    /// use parti_nats::{Delivery, PartitionId};
    ///
    /// let orders = Delivery::new("ORDERS", "orders.{partition}");
    /// assert_eq!(orders.subject_of(&PartitionId::new("eu.west")?)?, "orders.eu%2Ewest");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subject_of(&self, partition: &PartitionId) -> Result<String, DeliveryError> {
        Template::new(&self.template).map(|template| template.subject(partition))
    }

    /// Asks for an engine. The stream's retention decides which one it is; if that is another one, [`start`](Self::start) says
    /// so instead of delivering in another way than the service relies on.
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Where a partition without a stored position begins; with the first message of the stream by default. A stream that
    /// removes what is acknowledged has no other beginning.
    #[must_use]
    pub fn start_at(mut self, start: StartAt) -> Self {
        self.config.start = start;
        self
    }

    /// What to do where a position does not fit the stream: where the stream was made anew, where it has lost its newest
    /// messages, and where its limits have removed unfinished ones. The partition stops by default, each time. Where each
    /// partition has a consumer of its own there is no position to fit.
    #[must_use]
    pub fn on_misfit(mut self, made_anew: Policy, lost_suffix: Policy, gap: Policy) -> Self {
        (self.config.made_anew, self.config.lost_suffix, self.config.gap) = (made_anew, lost_suffix, gap);
        self
    }

    /// When what is finished is stored: after so many messages of a partition, or after this time. 1 000 and 1 s by
    /// default. What was finished since is repeated after a crash, unless it is acknowledged one by one, as a work queue wants.
    #[must_use]
    pub fn commit_every(mut self, messages: u32, time: Duration) -> Self {
        (self.config.commit_after, self.config.commit_interval) = (messages, time);
        self
    }

    /// Where a message goes that has failed `max_tries` times, with headers that say which message it was and why it
    /// failed: a subject of a stream, where `{partition}` stands for the partition. Without this it is tried for ever.
    ///
    /// A message that was in hand when its process ended counts as failed too, since it may be what ended it. Its last try is
    /// made with nothing else in the hands of this worker, for 10 s at most, so that no message is given up for another one.
    #[must_use]
    pub fn dead_letters(mut self, subject: impl Into<String>, max_tries: u32) -> Self {
        self.dead_letters = Some(subject.into());
        (self.config.dead_letters, self.config.max_tries) = (true, max_tries);
        self
    }

    /// The wait before a message that failed is tried again: at first, and at most. 100 ms, doubled with each failure up to
    /// 10 s, by default.
    #[must_use]
    pub fn back_off(mut self, first: Duration, longest: Duration) -> Self {
        (self.config.back_off, self.config.max_back_off) = (first, longest);
        self
    }

    /// How much of one partition is held ready, in messages and in bytes; 256 and 1 MiB by default.
    #[must_use]
    pub fn buffer(mut self, messages: u32, bytes: usize) -> Self {
        (self.config.buffer_messages, self.config.buffer_bytes) = (messages, bytes);
        self
    }

    /// Keeps positions in a database of the application, which stores each one in the same transaction as the effect of the
    /// message; see [`PositionStore`]. There is no bucket of positions then, and `parti positions`, `parti seek` and an
    /// [`Observer`](crate::Observer) know nothing of them. Only for a stream that keeps its messages.
    #[must_use]
    pub fn positions(mut self, store: impl PositionStore) -> Self {
        self.positions = Some(Given(Arc::new(store)));
        self
    }

    /// The least number of copies of the bucket that holds positions; 1 by default. In a cluster use 3. A stream that removes
    /// what is acknowledged must have as many, since its consumers have as many as it has.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas.max(1);
        self
    }

    /// The subjects that the client given to [`start`](Self::start) must be allowed to use, beside what the worker itself
    /// needs; everything else may be forbidden. They are those of the [engine](Self::engine) that was asked for, or else of
    /// either. Whoever creates the bucket of positions is not to need that for ever: once it is
    /// there, `$JS.API.STREAM.CREATE` may go.
    ///
    /// # Errors
    ///
    /// [`DeliveryError::Template`] if a template is none.
    pub fn permissions(&self, group: &GroupName) -> Result<Permissions, DeliveryError> {
        let (stream, positions) = (&self.config.stream, Names::positions(group));
        let kept = &positions.stream;
        let (is_log, is_queue) = (self.engine != Some(Engine::Queue), self.engine != Some(Engine::Log));
        let of_log = [format!("$JS.API.STREAM.MSG.GET.{stream}"), format!("$JS.API.DIRECT.GET.{stream}")];
        let of_queue = [
            format!("$JS.API.CONSUMER.INFO.{stream}.>"),
            format!("$JS.API.CONSUMER.RESET.{stream}.>"),
            format!("$JS.API.CONSUMER.NAMES.{stream}"),
            format!("$JS.ACK.{stream}.>"),
        ];
        let mut publish = vec![
            format!("$JS.API.STREAM.INFO.{stream}"),
            format!("$JS.API.CONSUMER.CREATE.{stream}.>"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.>"),
            format!("$JS.API.CONSUMER.DELETE.{stream}.>"),
        ];
        let of_bucket = [
            format!("$JS.API.STREAM.INFO.{kept}"),
            format!("$JS.API.STREAM.CREATE.{kept}"),
            format!("$JS.API.STREAM.MSG.GET.{kept}"),
            format!("{}pos.*", positions.stored),
        ];
        publish.extend(of_bucket.into_iter().filter(|_| self.positions.is_none()));
        publish.extend(of_log.into_iter().filter(|_| is_log));
        publish.extend(of_queue.into_iter().filter(|_| is_queue));
        publish.extend(self.dead_letters.as_deref().map(Template::new).transpose()?.map(|template| template.any()));
        Ok(Permissions { publish, subscribe: vec!["_INBOX.>".into()], allow_responses: false })
    }

    /// How long [`start`](Self::start) tries again where the server gives no certain answer, such as a cluster that is about
    /// to place a bucket; 30 s by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// All other settings. The stream's name is kept, and so is where [positions](Self::positions) are.
    #[must_use]
    pub fn config(mut self, config: DeliveryConfig) -> Self {
        let stream = std::mem::take(&mut self.config.stream);
        self.config = config;
        self.config.stream = stream;
        self
    }

    /// Begins to deliver to the partitions of `worker`, over this client: not that of the worker, whose heartbeats would
    /// wait behind messages. The bucket that holds positions is created where it is not there yet.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`]: a setting breaks a rule, the stream does not fit, or the client is not allowed what
    /// [`permissions`](Self::permissions) lists. The worker is then told to stop.
    pub async fn start(self, worker: Handle, client: Client) -> Result<Consumer, DeliveryError> {
        self.config.validate()?;
        let template = Template::new(&self.template)?;
        let dead_letters = self.dead_letters.as_deref().map(Template::new).transpose()?;
        let context = jetstream::new(client);
        let allowed = self.permissions(worker.group())?;
        // Which stream it is decides what else is needed.
        allowed::check(&context.client(), &allowed, |subject| subject.contains(".STREAM.INFO.")).await?;
        let begun = clock::now();
        loop {
            let known = (worker.group(), worker.listed);
            match Store::open(&context, known, &self, &template, dead_letters.as_ref()).await {
                Ok((store, engine)) => {
                    let allowed = Self { engine: Some(engine), ..self.clone() }.permissions(worker.group())?;
                    allowed::check(&context.client(), &allowed, |_| true).await?;
                    // By the time that others have a frozen worker's partitions, its last requests are over.
                    let pull_time = self.config.pull_time.min(worker.health.lease / 2);
                    let own_positions = self.positions.is_some();
                    let config = DeliveryConfig { engine, pull_time, own_positions, ..self.config };
                    return Ok(Consumer::start(worker, store, config));
                }
                Err(error) if error.is_transient() && clock::now() < begun + self.patience => {
                    tracing::warn!(event = "delivery_waits", %error, "cannot begin to deliver yet, trying again");
                    tokio::time::sleep(clock::jittered(BETWEEN_TRIES)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_lists_of_either_engine() {
        let documented = include_str!("../../OPERATIONS.md");
        let group = GroupName::new("orders").expect("a valid name");
        for engine in [Engine::Log, Engine::Queue] {
            let delivery = Delivery::new("ORDERS", "orders.{partition}").engine(engine);
            let list = delivery.permissions(&group).expect("a template").to_string();
            assert!(documented.contains(&format!("```text\n{list}\n```")), "{list}");
        }
    }
}
