//! What the command understands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use parti_nats::{GroupName, HumanDuration, Slot, StrategyChoice};

use crate::replay::Recordings;

/// What each exit code says, at the end of `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  fine, or yes          1  no: not settled, something would move, refused
  2  not understood        3  cannot tell: no server, no answer
  4  nothing there: no such group, worker or partition
  `check` is like `nats server check`: 0 fine, 1 warning, 2 critical, 3 unknown

Flags and variables are those of the `nats` tool, as are its contexts. What a context or a URL holds is never printed.";

/// Shows a group of workers, and writes what operators want of it.
///
/// What only shows writes nothing and asks no worker: it reads the group's buckets.
#[derive(Debug, Parser)]
#[command(name = "parti", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The group
    #[arg(short, long, env = "PARTI_GROUP", global = true)]
    pub(crate) group: Option<GroupName>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// Where the server is, and who one is there.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Server {
    /// URLs of servers, with commas between
    #[arg(short = 's', long = "server", env = "NATS_URL", hide_env_values = true, global = true)]
    pub(crate) url: Option<String>,
    /// A context of the `nats` tool
    #[arg(long, env = "NATS_CONTEXT", global = true)]
    pub(crate) context: Option<String>,
    /// A file with credentials
    #[arg(long, env = "NATS_CREDS", hide_env_values = true, global = true)]
    pub(crate) creds: Option<String>,
    /// A file with the seed of an nkey
    #[arg(long, env = "NATS_NKEY", hide_env_values = true, global = true)]
    pub(crate) nkey: Option<String>,
    /// A user name, or a token where there is no password
    #[arg(long, env = "NATS_USER", hide_env_values = true, global = true)]
    pub(crate) user: Option<String>,
    /// The password of the user
    #[arg(long, env = "NATS_PASSWORD", hide_env_values = true, global = true)]
    pub(crate) password: Option<String>,
    /// A token
    #[arg(long, env = "NATS_TOKEN", hide_env_values = true, global = true)]
    pub(crate) token: Option<String>,
    /// A file with the certificate of this client
    #[arg(long, env = "NATS_CERT", global = true)]
    pub(crate) tlscert: Option<String>,
    /// A file with the key of that certificate
    #[arg(long, env = "NATS_KEY", hide_env_values = true, global = true)]
    pub(crate) tlskey: Option<String>,
    /// A file with the certificates to trust
    #[arg(long, env = "NATS_CA", global = true)]
    pub(crate) tlsca: Option<String>,
    /// Begin with TLS, before the server says anything
    #[arg(long, global = true)]
    pub(crate) tlsfirst: bool,
    /// How long to wait for an answer
    #[arg(long, env = "NATS_TIMEOUT", default_value = "5s", value_parser = duration, global = true)]
    pub(crate) timeout: Duration,
    /// The JetStream domain of the buckets
    #[arg(long, env = "NATS_JS_DOMAIN", global = true)]
    pub(crate) js_domain: Option<String>,
    /// What the subjects of answers begin with
    #[arg(long, env = "NATS_INBOX_PREFIX", global = true)]
    pub(crate) inbox_prefix: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// One sentence, the group in a few lines, and its workers
    #[command(after_help = "Examples:\n  parti status -g orders\n  parti status -g orders --lag")]
    Status(Status),
    /// Who has which slot, and how each is
    #[command(after_help = "Example:\n  parti workers -g orders")]
    Workers,
    /// Where each partition is; unowned and moving ones first
    #[command(after_help = "Example:\n  parti partitions -g orders --unowned")]
    Partitions(Which),
    /// Who owns one partition; exit code 1 if nobody does
    #[command(after_help = "Example:\n  parti who-owns -g orders orders-17")]
    WhoOwns {
        /// The partition
        id: String,
    },
    /// Why a partition is where it is, each move that is remembered, and what would move it
    #[command(after_help = "Example:\n  parti explain -g orders orders-17")]
    Explain {
        /// The partition
        id: String,
    },
    /// What would move; exit code 0 if nothing does, 1 if something does
    #[command(after_help = "Examples:\n  parti plan -g orders --add 2\n  parti plan -g orders --remove 7 --json")]
    Plan(Question),
    /// Have a worker give everything to others
    #[command(after_help = "Example:\n  parti drain -g orders 7 --reason 'new disks' --wait")]
    Drain(Drain),
    /// Let a drained worker take part again
    #[command(after_help = "Example:\n  parti undrain -g orders 7")]
    Undrain {
        /// The worker's slot
        #[arg(value_parser = slot)]
        slot: Slot,
        #[command(flatten)]
        force: Force,
    },
    /// Move nothing for the sake of balance
    #[command(after_help = "Example:\n  parti pause -g orders --reason 'load test until noon'")]
    Pause(Reasoned),
    /// End a pause
    #[command(after_help = "Example:\n  parti resume -g orders")]
    Resume(Force),
    /// Hold what workers have that are gone, since they come back
    #[command(after_help = "Example:\n  parti maintenance -g orders begin --hold 30m --reason 'rack 4'")]
    Maintenance {
        #[command(subcommand)]
        verb: Maintenance,
    },
    /// Plan now, without waiting for a window or an interval
    #[command(after_help = "Example:\n  parti rebalance -g orders --if-generation 17")]
    Rebalance(Rebalance),
    /// End the tenure of a worker that is gone, once its lease is over
    #[command(
        long_about = "End the tenure of a worker that is gone, once its lease is over: its record has to stay unchanged for \
                      the lease and an eighth of it, seen by this command. A leader does the same by itself; this is for a \
                      group that nobody leads, or where a maintenance holds what the worker had. It needs the right to \
                      publish to $KV.parti_<group>_members.slot.<slot>, which an operator's permissions do not have.",
        after_help = "Example:\n  parti evict -g orders 7 --force"
    )]
    Evict {
        /// The worker's slot
        #[arg(value_parser = slot)]
        slot: Slot,
        #[command(flatten)]
        force: Force,
    },
    /// The partition list in the store
    #[command(after_help = "Examples:\n  parti list -g orders show\n  parti list -g orders add orders-64 orders-65=3")]
    List {
        #[command(subcommand)]
        verb: List,
    },
    /// Wait, for scripts
    #[command(after_help = "Example:\n  parti wait -g orders settled --at-most 5m")]
    Wait {
        #[command(subcommand)]
        what: Wait,
    },
    /// The group as it changes; piped, a line for each change of its state
    #[command(after_help = "Example:\n  parti watch -g orders")]
    Watch,
    /// The group as it changes, on a page that only this machine can see
    #[command(
        long_about = "The group as it changes, on a page that only this machine can see: prints where it is, under a path \
                      that nobody can guess, and serves it until it is interrupted. Nothing on it writes.",
        after_help = "Example:\n  parti dashboard -g orders"
    )]
    Dashboard(Dashboard),
    /// How far the messages of each partition are finished
    #[command(after_help = "Example:\n  parti positions -g orders")]
    Positions,
    /// Have a partition go on with another message; only told unless --execute is given
    #[command(after_help = "Example:\n  parti seek -g orders eu --to first --execute")]
    Seek(Seek),
    /// The messages that were given up
    #[command(
        after_help = "Examples:\n  parti dead-letters -g orders ls DEAD\n  parti dead-letters -g orders replay DEAD 17 --execute"
    )]
    DeadLetters {
        #[command(subcommand)]
        verb: DeadLetters,
    },
    /// What a worker was told and what it decided, from its flight recording; exit code 1 if it now decides otherwise
    #[command(
        long_about = "What a worker was told and what it decided, line by line, from the files that Builder::record has written: \
                      it is told the same again, and what it asks for is compared with what it asked for then. No server is \
                      asked. `<-` is what it was told, `=>` what it became, `->` what it asked for, `!!` what does not fit. \
                      Exit code 1 if it decides otherwise, 3 if a file is cut off or damaged: what comes before is shown.",
        after_help = "Examples:\n  parti replay /var/lib/orders/worker.rec* --from 2026-11-30T17:05 --until 2026-11-30T17:06\n  parti replay worker.rec --grep orders-17"
    )]
    Replay(Recordings),
    /// Whether all is well, for monitoring
    #[command(after_help = "Example:\n  parti check -g orders --format nagios")]
    Check(Check),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  parti completions bash > /etc/bash_completion.d/parti")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  parti man > /usr/local/share/man/man1/parti.1")]
    Man,
}

/// What else `status` tells.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Status {
    /// How far messages are behind, too: one request for each partition that has a position
    #[arg(
        long,
        long_help = "How far messages are behind, too: at most, since a stream tells its last message, and not whose it is. One \
                     request for each partition that has a position; it has to be allowed what `parti positions` is. What \
                     cannot be read is said, and the rest is shown all the same."
    )]
    pub(crate) lag: bool,
}

/// Which partitions to show; all if none of these is given.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Which {
    /// Only those that nobody owns
    #[arg(long)]
    pub(crate) unowned: bool,
    /// Only those that are on their way
    #[arg(long)]
    pub(crate) moving: bool,
    /// Only those of this worker
    #[arg(long, value_name = "SLOT", value_parser = slot)]
    pub(crate) owner: Option<Slot>,
}

/// What to ask the calculator.
#[derive(Debug, Args)]
pub(crate) struct Question {
    /// So many workers join, in the lowest free slots
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "slot")]
    pub(crate) add: u32,
    /// A worker joins in this slot; may be given again
    #[arg(long, value_name = "SLOT", value_parser = slot)]
    pub(crate) slot: Vec<Slot>,
    /// The capacity of those that join
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) capacity: u32,
    /// A worker leaves; may be given again
    #[arg(long, value_name = "SLOT", value_parser = slot)]
    pub(crate) remove: Vec<Slot>,
    /// Other weights: lines of a partition and its weight, or JSON such as {"orders-1": 3}; `-` is the standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Another strategy: balanced, round-robin, consistent-hash or consistent-hash=NODES
    #[arg(long, value_name = "NAME", value_parser = strategy)]
    pub(crate) strategy: Option<StrategyChoice>,
    /// The leader's `move_budget_percent`, which no record tells
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) move_budget: u32,
}

/// Why, and who: stored with the wish.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reasoned {
    /// Why, for those who see it later
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Who wants it
    #[arg(long, env = "USER", default_value = "", hide_default_value = true)]
    pub(crate) by: String,
    #[command(flatten)]
    pub(crate) force: Force,
}

/// Whether to ask first.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Force {
    /// Do not ask first; needed where there is no terminal
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Which worker is to have nothing.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The worker's slot
    #[arg(value_parser = slot)]
    pub(crate) slot: Slot,
    /// Wait until it has nothing, and show how far it is
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) at_most: Duration,
    #[command(flatten)]
    pub(crate) reasoned: Reasoned,
}

/// A maintenance.
#[derive(Debug, Subcommand)]
pub(crate) enum Maintenance {
    /// Workers that are gone are expected back
    Begin {
        /// For how long a worker that is gone is waited for; without end if it is not given
        #[arg(long, value_name = "TIME", value_parser = duration)]
        hold: Option<Duration>,
        #[command(flatten)]
        reasoned: Reasoned,
    },
    /// Those that are gone have crashed
    End(Force),
}

/// A plan now.
#[derive(Debug, Args)]
pub(crate) struct Rebalance {
    /// Only if the plan is still the one of this generation
    #[arg(long, value_name = "GENERATION")]
    pub(crate) if_generation: Option<u64>,
    #[command(flatten)]
    pub(crate) reasoned: Reasoned,
}

/// The list in the store.
#[derive(Debug, Subcommand)]
pub(crate) enum List {
    /// Print it: a partition and its weight a line
    Show,
    /// Replace all of it by what is in a file, which is as `show` prints it
    Set {
        /// The file; `-` is the standard input
        file: PathBuf,
        /// Only if it is still the list of this revision, as `show --json` tells it
        #[arg(long)]
        revision: Option<u64>,
        #[command(flatten)]
        force: Force,
    },
    /// Add partitions
    Add {
        /// Each a name, or a name and a weight: orders-1=3
        #[arg(required = true)]
        partitions: Vec<String>,
        #[command(flatten)]
        force: Force,
    },
    /// Remove partitions
    Remove {
        /// Their names
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        force: Force,
    },
}

/// What to wait for.
#[derive(Debug, Subcommand)]
pub(crate) enum Wait {
    /// Until every partition has its owner and nothing is under way; exit code 1 if that takes too long
    Settled {
        /// How long to wait at most
        #[arg(long = "at-most", visible_alias = "for", value_name = "TIME", default_value = "5m", value_parser = duration)]
        at_most: Duration,
    },
}

/// Where the page is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Dashboard {
    /// The port on the loopback; 0 for any that is free
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
}

/// Where a partition is to go on.
#[derive(Debug, Args)]
pub(crate) struct Seek {
    /// The partition
    pub(crate) partition: String,
    /// The first message that is to come: first, end, or a number
    #[arg(long, value_name = "MESSAGE")]
    pub(crate) to: String,
    /// Do it; without it is only said what would be done
    #[arg(long)]
    pub(crate) execute: bool,
    #[command(flatten)]
    pub(crate) force: Force,
}

/// Dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Print them, the newest first
    Ls {
        /// The stream that has them
        stream: String,
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: u64,
    },
    /// Publish one to where it came from; only told unless --execute is given
    Replay {
        /// The stream that has it
        stream: String,
        /// Its number there
        letter: u64,
        /// Do it; without it is only said what would be done
        #[arg(long)]
        execute: bool,
        #[command(flatten)]
        force: Force,
    },
}

/// What `check` prints, and how long a wish may be forgotten.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// A wish that is older than this is perhaps forgotten
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(crate) wish_age: Duration,
}

/// How `check` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One document
    Json,
    /// For Nagios and its kin
    Nagios,
    /// For Prometheus
    Prometheus,
}

/// Reads a slot: its number, or the name of its worker.
fn slot(text: &str) -> Result<Slot, String> {
    let number = text.strip_prefix("worker-").unwrap_or(text);
    number.parse().map(Slot::new).map_err(|_| "a worker is named by its slot, such as 7 or worker-7".to_owned())
}

/// Reads a duration such as `90s` or `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>().map(|HumanDuration(time)| time).map_err(|error| error.to_string())
}

fn strategy(text: &str) -> Result<StrategyChoice, String> {
    let nodes =
        |nodes: &str| nodes.parse().map_err(|_| format!("the number of nodes must be a number, but is {nodes:?}"));
    match text.split_once('=') {
        None if text == "balanced" => Ok(StrategyChoice::Balanced),
        None if text == "round-robin" => Ok(StrategyChoice::RoundRobin),
        None if text == "consistent-hash" => Ok(StrategyChoice::ConsistentHash { virtual_nodes: 150 }),
        Some(("consistent-hash", text)) => Ok(StrategyChoice::ConsistentHash { virtual_nodes: nodes(text)? }),
        _ => Err("it must be balanced, round-robin, consistent-hash or consistent-hash=NODES".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_makes_sense_and_each_verb_has_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("  parti {}", verb.get_name())), "{}", verb.get_name());
        }
    }
}
