//! Where the list of partitions comes from: a fixed list, the store, or a user's own place.

mod partition_bucket;
mod stored;

use std::error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use parti_core::{Event, PartitionList, Source, SourceError};
use tokio::sync::{Notify, mpsc};

pub(crate) use partition_bucket::BucketSource;
pub use partition_bucket::{Listed, PartitionBucket};

use crate::clock;
use crate::health::Signs;
use crate::input::Input;
use crate::metrics::Metrics;
use crate::panics::caught;

/// The mean wait before a source is read again that has failed once.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest mean wait before a source is read again; it doubles from the first.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A source whose type does not matter any more.
pub(crate) trait AnySource: Send + 'static {
    fn read(&mut self) -> Pin<Box<dyn Future<Output = Result<PartitionList, SourceError>> + Send + '_>>;
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<S: Source> AnySource for S {
    fn read(&mut self) -> Pin<Box<dyn Future<Output = Result<PartitionList, SourceError>> + Send + '_>> {
        Box::pin(Source::read(self))
    }

    fn changed(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(Source::changed(self))
    }
}

/// The warning that the source could not be read.
const SOURCE_FAILED: &str = "source_failed";

/// The warning that the source does not answer.
const SOURCE_SILENT: &str = "source_silent";
/// How long a source may read before that is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads a source again and again, and hands each new list to the driver.
pub(crate) struct Reader {
    pub(crate) source: Box<dyn AnySource>,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    /// Somebody wants it to be read now.
    pub(crate) refresh: Arc<Notify>,
    pub(crate) signs: Arc<Signs>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Reader {
    /// Runs until the driver is gone. A panic of the source is a failed reading.
    pub(crate) async fn run(mut self) {
        let mut known = None;
        let mut pause = FIRST_RETRY;
        loop {
            let read = self.read_on(&mut known, &mut pause).await;
            match read {
                Ok(()) if self.inputs.is_closed() => return,
                Ok(()) => {}
                Err(error) => {
                    self.fail(&*error);
                    tokio::select! {
                        () = tokio::time::sleep(clock::jittered(pause)) => {}
                        () = self.refresh.notified() => {}
                    }
                    pause = (pause * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Reads the list, hands it on if it is new, and waits until it may be another.
    async fn read_on(&mut self, known: &mut Option<PartitionList>, pause: &mut Duration) -> Result<(), SourceError> {
        let list = self.read().await?;
        self.signs.warnings.clear(SOURCE_FAILED);
        if known.as_ref() != Some(&list) {
            tracing::info!(event = "partitions_read", partitions = list.as_slice().len(), "a list has come");
            // An error means that the driver is gone.
            let _ = self.inputs.send(Input::Event(Event::Partitions(list.clone())));
            *known = Some(list);
        }
        tokio::select! {
            changed = caught(self.source.changed()) => changed.map_err(|message| panicked(&message))?,
            () = self.refresh.notified() => {}
            () = self.inputs.closed() => {}
        }
        // A source that panics between good readings is asked less and less often.
        *pause = FIRST_RETRY;
        Ok(())
    }

    /// Reads the list once, and says so if that takes too long.
    async fn read(&mut self) -> Result<PartitionList, SourceError> {
        let mut reading = pin!(caught(self.source.read()));
        let read = if let Ok(read) = tokio::time::timeout(PATIENCE, &mut reading).await {
            read
        } else {
            let seconds = PATIENCE.as_secs();
            tracing::warn!(event = SOURCE_SILENT, seconds, "the source does not answer; the last list stays");
            let text = format!("the source has not answered for {seconds} s: give its reading a timeout of its own");
            self.signs.warnings.set(SOURCE_SILENT, text);
            let read = reading.await;
            self.signs.warnings.clear(SOURCE_SILENT);
            read
        };
        read.map_err(|message| panicked(&message))?
    }

    fn fail(&self, error: &(dyn error::Error + Send + Sync)) {
        tracing::warn!(event = SOURCE_FAILED, %error, "the partitions could not be read; the last list stays");
        self.metrics.source_failed();
        self.signs.warnings.set(SOURCE_FAILED, format!("the partition list could not be read: {error}"));
    }
}

/// What a panic of a source counts as.
fn panicked(message: &str) -> SourceError {
    format!("the source has panicked: {message}").into()
}

#[cfg(test)]
mod tests {
    use parti_core::{Partition, PartitionId};

    use super::*;

    /// Says one thing after another, and that there is a change whenever it is asked.
    struct Script(std::vec::IntoIter<Result<PartitionList, SourceError>>);

    impl Source for Script {
        async fn read(&mut self) -> Result<PartitionList, SourceError> {
            match self.0.next() {
                Some(said) => said,
                None => std::future::pending().await,
            }
        }

        async fn changed(&mut self) {}
    }

    fn list(ids: &[&str]) -> PartitionList {
        let partitions = ids.iter().map(|id| Partition::new(PartitionId::new(id).expect("a valid id")));
        PartitionList::new(partitions.collect()).expect("different ids")
    }

    fn reader_of(source: impl Source) -> (Reader, Arc<Signs>, mpsc::UnboundedReceiver<Input>) {
        let (inputs, told) = mpsc::unbounded_channel();
        let signs = Arc::new(Signs::new("orders"));
        let reader = Reader {
            source: Box::new(source),
            inputs,
            refresh: Arc::default(),
            signs: Arc::clone(&signs),
            metrics: Arc::new(Metrics::new("orders")),
        };
        (reader, signs, told)
    }

    /// Panics at every other word, and has another list each time.
    struct Panics(usize);

    impl Source for Panics {
        async fn read(&mut self) -> Result<PartitionList, SourceError> {
            self.0 += 1;
            assert!(self.0.is_multiple_of(2), "the source has a bug");
            Ok(list(&["a", "b", "c"][..self.0 / 2]))
        }

        async fn changed(&mut self) {
            assert_ne!(self.0, 2, "it has another bug");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_panics_is_read_again_and_that_is_said() {
        let (reader, signs, mut told) = reader_of(Panics(0));
        let running = tokio::spawn(reader.run());
        for expected in [list(&["a"]), list(&["a", "b"])] {
            match told.recv().await {
                Some(Input::Event(Event::Partitions(list))) => assert_eq!(list, expected),
                other => panic!("expected a list, got {other:?}"),
            }
        }
        tokio::time::sleep(FIRST_RETRY / 4).await;
        let warnings = signs.warnings.list();
        assert!(warnings[0].text.contains("has panicked: the source has a bug"), "{warnings:?}");
        drop(told);
        running.abort();
    }

    /// Answers for the first time after a minute.
    struct Slow;

    impl Source for Slow {
        async fn read(&mut self) -> Result<PartitionList, SourceError> {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(list(&["a"]))
        }

        async fn changed(&mut self) {
            std::future::pending::<()>().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_answer_is_spoken_of_until_it_does() {
        let (reader, signs, mut told) = reader_of(Slow);
        let running = tokio::spawn(reader.run());
        tokio::time::sleep(PATIENCE + Duration::from_secs(1)).await;
        assert_eq!(signs.warnings.list()[0].name, SOURCE_SILENT);
        assert!(matches!(told.recv().await, Some(Input::Event(Event::Partitions(_)))));
        assert_eq!(signs.warnings.list(), []);
        running.abort();
    }

    #[tokio::test]
    async fn an_error_changes_nothing_and_the_same_list_is_told_once() {
        let script = vec![Ok(list(&["a"])), Err("out of order".into()), Ok(list(&["a"])), Ok(list(&["a", "b"]))];
        let (reader, signs, mut told) = reader_of(Script(script.into_iter()));
        let running = tokio::spawn(reader.run());
        for expected in [list(&["a"]), list(&["a", "b"])] {
            match told.recv().await {
                Some(Input::Event(Event::Partitions(list))) => assert_eq!(list, expected),
                other => panic!("expected a list, got {other:?}"),
            }
        }
        assert_eq!(signs.warnings.list(), []);
        assert!(told.try_recv().is_err());
        running.abort();
    }
}
