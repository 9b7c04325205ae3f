//! Everything that runs: ordinary tasks, critical tasks and the background tasks that serve them.
//!
//! Guarantee: no task is forgotten. A panic ends its own task only, is logged and counted in
//! `photofinish_task_panics_total{task}`. Ordinary tasks are waited for first, background tasks (connection
//! supervisors and the like) after them, so a task can use its connections until its own end.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::Shutdown;

/// A task panicked; the text is the panic's own message.
#[derive(Debug, Clone, thiserror::Error)]
#[error("task {task} panicked: {message}")]
pub struct Panicked {
    /// Name given at spawn.
    pub task: &'static str,
    /// What the panic said.
    pub message: String,
}

/// The tracker of all tasks of the process. Clones share one state.
#[derive(Debug, Clone)]
pub struct Tasks {
    shutdown: Shutdown,
    ordinary: TaskTracker,
    background: TaskTracker,
    dead: CancellationToken,
    dead_name: Arc<Mutex<Option<&'static str>>>,
}

impl Tasks {
    /// No tasks yet; they are told of the end by `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            ordinary: TaskTracker::new(),
            background: TaskTracker::new(),
            dead: CancellationToken::new(),
            dead_name: Arc::default(),
        }
    }

    /// The shutdown these tasks listen to.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs work that the end waits for. Its answer is kept in the handle; a panic is an error there.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Result<F::Output, Panicked>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.ordinary.spawn(guarded(name, future))
    }

    /// Runs work without which the process makes no sense: if it ends before a shutdown began, the process ends
    /// with a non-zero exit code.
    pub fn spawn_critical<F>(&self, name: &'static str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.ordinary.spawn(self.watched(name, future));
    }

    /// Runs a task that serves the others, such as a connection's supervisor: it should end when
    /// [`Shutdown::drained`] does, which is after all ordinary tasks. It is critical, too.
    pub fn spawn_background<F>(&self, name: &'static str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.background.spawn(self.watched(name, future));
    }

    /// How many tasks have not ended.
    pub fn count(&self) -> usize {
        self.ordinary.len() + self.background.len()
    }

    /// Waits for a critical task that ended although no shutdown had begun; gives its name.
    pub async fn critical_ended(&self) -> &'static str {
        self.dead.cancelled().await;
        let name = match self.dead_name.lock() {
            Ok(name) => *name,
            Err(poisoned) => *poisoned.into_inner(),
        };
        name.unwrap_or("unknown")
    }

    /// Carries a shutdown out: stop, wait for the ordinary tasks, mark drained, wait for the background tasks, all
    /// within `deadline`; then cut off and give the rest one second. Returns how many tasks were left over.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.shutdown.stop();
        self.ordinary.close();
        self.background.close();
        let orderly = async {
            self.ordinary.wait().await;
            self.shutdown.mark_drained();
            self.background.wait().await;
        };
        if tokio::time::timeout(deadline, orderly).await.is_ok() {
            return 0;
        }
        let left = self.count();
        self.shutdown.cut();
        let rest = async {
            self.ordinary.wait().await;
            self.background.wait().await;
        };
        // Whether they end within the second changes nothing: the deadline has passed, and that is what is told.
        let _ended = tokio::time::timeout(Duration::from_secs(1), rest).await;
        left
    }

    fn watched<F>(&self, name: &'static str, future: F) -> impl Future<Output = ()> + use<F>
    where
        F: Future,
    {
        let watch = EndWatch {
            tasks: self.clone(),
            name,
        };
        let guarded = guarded(name, future);
        async move {
            let _watch = watch;
            let _outcome = guarded.await;
        }
    }
}

/// Notices the end of a critical task however it comes, an abort included.
struct EndWatch {
    tasks: Tasks,
    name: &'static str,
}

impl Drop for EndWatch {
    fn drop(&mut self) {
        if self.tasks.shutdown.stopping() {
            return;
        }
        if let Ok(mut name) = self.tasks.dead_name.lock() {
            name.get_or_insert(self.name);
        }
        self.tasks.dead.cancel();
    }
}

/// Catches panics; what is logged inside belongs to the span in which the task was spawned.
fn guarded<F: Future>(
    name: &'static str,
    future: F,
) -> impl Future<Output = Result<F::Output, Panicked>> {
    let caught = AssertUnwindSafe(future).catch_unwind();
    async move { caught.await.map_err(|panic| panicked(name, panic.as_ref())) }
        .instrument(tracing::Span::current())
}

fn panicked(task: &'static str, panic: &(dyn Any + Send)) -> Panicked {
    let message = panic_message(panic);
    metrics::counter!("photofinish_task_panics_total", "task" => task).increment(1);
    tracing::error!(task, panic = message, "a task panicked");
    Panicked { task, message }
}

/// The text of a caught panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ordinary_tasks_end_before_background_tasks_are_told() {
        let tasks = Tasks::new(Shutdown::new());
        let order = Arc::new(Mutex::new(Vec::new()));
        let (log, end) = (order.clone(), tasks.shutdown().clone());
        tasks.spawn_background("connection", async move {
            end.drained().await;
            log.lock().unwrap().push("connection");
        });
        let (log, end) = (order.clone(), tasks.shutdown().clone());
        let handle = tasks.spawn("work", async move {
            end.wait().await;
            tokio::task::yield_now().await;
            log.lock().unwrap().push("work");
            7
        });
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
        assert_eq!(*order.lock().unwrap(), ["work", "connection"]);
        assert_eq!(handle.await.unwrap().unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_cuts_off_and_counts_what_is_left() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("stuck", std::future::pending::<()>());
        assert_eq!(tasks.drain(Duration::from_secs(30)).await, 1);
        tasks.shutdown().cut_off().await;
    }

    #[tokio::test]
    async fn the_end_of_a_critical_task_is_told_and_a_panic_is_an_error() {
        let tasks = Tasks::new(Shutdown::new());
        let failed = tasks.spawn("careless", async { panic!("on purpose") });
        assert_eq!(failed.await.unwrap().unwrap_err().message, "on purpose");
        tasks.spawn_critical("consumer", async {});
        assert_eq!(tasks.critical_ended().await, "consumer");
    }

    #[tokio::test]
    async fn a_critical_task_may_end_during_a_shutdown() {
        let tasks = Tasks::new(Shutdown::new());
        let end = tasks.shutdown().clone();
        tasks.spawn_critical("consumer", async move { end.wait().await });
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
        assert!(tasks.critical_ended().now_or_never().is_none());
    }
}
