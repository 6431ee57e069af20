//! Lets hyper start the tasks of a connection in a scope.

use edgek_base_lifecycle::Scope;

/// Starts tasks in a scope.
#[derive(Debug, Clone)]
pub(crate) struct ScopeExecutor(pub(crate) Scope);

impl<F> hyper::rt::Executor<F> for ScopeExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("link stream", future);
    }
}
