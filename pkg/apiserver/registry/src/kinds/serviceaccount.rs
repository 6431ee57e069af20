//! ServiceAccounts.

use crate::strategy::{Deleted, PLAIN, Strategy};

pub(super) const STRATEGY: Strategy = Strategy { deleted: Deleted::Object, ..PLAIN };
