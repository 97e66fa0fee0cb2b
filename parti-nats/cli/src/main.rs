//! The command `parti`: shows a group of workers and writes what operators want of it.
//!
//! It stands on [`parti_nats::Observer`], which writes nothing, and on [`parti_nats::Operator`], which writes wishes. No
//! worker is asked, and none has to run.

mod arguments;
mod ask;
mod check;
mod connect;
mod context;
mod dashboard;
mod explain;
mod failure;
mod lag;
mod letters;
mod list;
mod look;
mod messages;
mod plan;
mod replay;
mod show;
mod wait;
mod watch;
mod wish;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Verb};
use failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(Failure::cannot_tell(format!("the runtime could not be started: {error}"))),
    };
    match done {
        Ok(code) => code.into(),
        Err(failure) => {
            show::complain(&failure);
            failure.code.into()
        }
    }
}

/// Does what was asked for. The answer is the exit code: see [`failure`].
async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { verb, global } = arguments;
    match verb {
        Verb::Status(status) => look::status(&global, status).await,
        Verb::Workers => look::workers(&global).await,
        Verb::Partitions(which) => look::partitions(&global, &which).await,
        Verb::WhoOwns { id } => look::who_owns(&global, &id).await,
        Verb::Explain { id } => explain::explain(&global, &id).await,
        Verb::Plan(question) => plan::plan(&global, &question).await,
        Verb::Drain(drain) => wish::drain(&global, drain).await,
        Verb::Undrain { slot, force } => wish::undrain(&global, slot, &force).await,
        Verb::Pause(wish) => wish::pause(&global, wish).await,
        Verb::Resume(force) => wish::resume(&global, &force).await,
        Verb::Maintenance { verb } => wish::maintenance(&global, verb).await,
        Verb::Rebalance(rebalance) => wish::rebalance(&global, rebalance).await,
        Verb::Evict { slot, force } => wish::evict(&global, slot, &force).await,
        Verb::List { verb } => list::list(&global, verb).await,
        Verb::Wait { what } => wait::wait(&global, what).await,
        Verb::Watch => watch::watch(&global).await,
        Verb::Dashboard(dashboard) => dashboard::dashboard(&global, dashboard).await,
        Verb::Positions => messages::positions(&global).await,
        Verb::Seek(seek) => messages::seek(&global, seek).await,
        Verb::DeadLetters { verb } => letters::dead_letters(&global, verb).await,
        Verb::Replay(wanted) => replay::replay(&global, &wanted),
        Verb::Check(check) => check::check(&global, check).await,
        Verb::Completions { shell } => show::to_stdout(|out| {
            clap_complete::generate(shell, &mut Arguments::command(), "parti", out);
            Ok(())
        }),
        Verb::Man => show::to_stdout(|out| clap_mangen::Man::new(Arguments::command()).render(out)),
    }
}
