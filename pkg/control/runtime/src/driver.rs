//! The reconcile driver: workers that take keys out of a queue until their scope ends.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use tracing::{debug, warn};

use crate::Queue;

/// What follows a reconcile that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something changes.
    Wait,
    /// Another one after this time.
    After(Duration),
}

/// Starts `workers` workers of the controller `name`. A reconcile is repeated with back-off when it fails; a conflict
/// is an ordinary failure, because the newer object is on its way.
pub fn run<K, F, R, E>(scope: &Scope, name: &'static str, queue: &Queue<K>, workers: usize, reconcile: F)
where
    K: Ord + Clone + Hash + Debug + Send + Sync + 'static,
    F: Fn(K) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Next, E>> + Send,
    E: Display + Send,
{
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        scope.spawn(name, async move {
            loop {
                let key = queue.next().await;
                let outcome = reconcile(key.clone()).await;
                match outcome {
                    Ok(next) => {
                        queue.forget(&key);
                        if let Next::After(delay) = next {
                            queue.add_after(key.clone(), delay);
                        }
                    }
                    Err(error) => {
                        log(name, &key, &error);
                        queue.retry(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
}

fn log(name: &'static str, key: &impl Debug, error: &impl Display) {
    let text = error.to_string();
    // Conflicts belong to the way controllers work; the retry reads the newer object.
    if text.contains("the object has been modified") {
        debug!(controller = name, ?key, error = text, "will be tried again");
    } else {
        warn!(controller = name, ?key, error = text, "reconcile failed; it will be tried again");
    }
}
