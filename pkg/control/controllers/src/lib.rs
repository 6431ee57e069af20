//! One file per controller: what it watches, its pure plan and its reconcile.
