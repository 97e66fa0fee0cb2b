//! What a process takes, as Linux tells it.

use std::time::Duration;

use procfs::process::Process;

/// How long the threads of a process have run on a core.
///
/// # Panics
///
/// If the process has ended, or the system is not Linux.
pub fn core_time(pid: u32) -> Duration {
    let threads = look_at(pid).tasks().expect("it runs");
    // A thread may end meanwhile.
    let times = threads.filter_map(|thread| thread.ok()?.schedstat().ok());
    Duration::from_nanos(times.map(|time| time.sum_exec_runtime).sum())
}

/// How long the thread of this name has run on a core; not at all where there is none.
///
/// # Panics
///
/// As [`core_time`].
pub fn core_time_of_thread(pid: u32, name: &str) -> Duration {
    let threads = look_at(pid).tasks().expect("it runs");
    let named = threads.filter_map(Result::ok).filter(|thread| thread.status().is_ok_and(|status| status.name == name));
    Duration::from_nanos(named.filter_map(|thread| thread.schedstat().ok()).map(|time| time.sum_exec_runtime).sum())
}

/// How much of a process is in memory, in MiB.
///
/// # Panics
///
/// If the process has ended, or the system is not Linux.
pub fn memory_of(pid: u32) -> f64 {
    let resident = look_at(pid).status().expect("it runs").vmrss.expect("Linux tells");
    let kibibytes = u32::try_from(resident).expect("less than 4 TiB");
    f64::from(kibibytes) / 1024.0
}

fn look_at(pid: u32) -> Process {
    Process::new(pid.try_into().expect("a process id")).expect("the figures of processes are those of Linux")
}
