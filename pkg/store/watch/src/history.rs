//! `History`: the recent changes of a collection. Watches that resume and lists at an older revision are served from it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::list::Undone;
use crate::{Frame, Object, Revision};

/// How much history a collection keeps.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Changes older than this are forgotten.
    pub age: Duration,
    /// Above this many bytes the oldest are forgotten earlier.
    pub bytes: usize,
}

impl Default for Window {
    /// Five minutes, as upstream's compaction, and 8 MiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(300), bytes: 8 << 20 }
    }
}

/// What a change costs besides the object's bytes.
const CHANGE_BYTES: usize = 512;

/// One committed change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: Arc<str>,
    pub(crate) revision: Revision,
    /// The object before, unless it was created.
    pub(crate) before: Option<Arc<Object>>,
    /// The object after, unless it was deleted.
    pub(crate) after: Option<Arc<Frame>>,
    /// `before` with this change's revision: what a watcher sees for which the object is gone.
    gone: OnceLock<Arc<Frame>>,
    at: Instant,
}

impl Change {
    pub(crate) fn new(
        key: Arc<str>,
        revision: Revision,
        before: Option<Arc<Object>>,
        after: Option<Arc<Object>>,
        at: Instant,
    ) -> Self {
        Self { key, revision, before, after: after.map(Frame::new), gone: OnceLock::new(), at }
    }

    /// The last state of an object that is gone, with the revision of its going; `None` when there was none.
    pub(crate) fn gone(&self) -> Option<&Arc<Frame>> {
        let before = self.before.as_ref()?;
        Some(self.gone.get_or_init(|| Frame::new(before.restamped(self.revision))))
    }

    fn bytes(&self) -> usize {
        let object = self.after.as_ref().map(|frame| frame.object()).or(self.before.as_ref());
        CHANGE_BYTES + object.map_or(0, |object| object.bytes().len())
    }
}

#[derive(Debug)]
pub(crate) struct History {
    window: Window,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// All changes after this revision are here.
    floor: Revision,
    /// Lists do not go back behind this revision, whether something changed since or not.
    compacted: Revision,
}

impl History {
    pub(crate) fn new(window: Window, floor: Revision) -> Self {
        Self { window, changes: VecDeque::new(), bytes: 0, floor, compacted: Revision(0) }
    }

    pub(crate) fn push(&mut self, change: Arc<Change>) {
        let now = change.at;
        self.bytes += change.bytes();
        self.changes.push_back(change);
        self.trim(now);
    }

    /// Forgets what has left the window, and with a revision that all lists at older ones are over: upstream compacts
    /// the store as a whole, and clients hold on to a list that never expires.
    pub(crate) fn compact(&mut self, now: Instant, before: Option<Revision>) {
        self.compacted = before.unwrap_or(self.compacted);
        self.trim(now);
    }

    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.changes.front() {
            if self.bytes <= self.window.bytes && now.duration_since(oldest.at) <= self.window.age {
                break;
            }
            self.bytes -= oldest.bytes();
            self.floor = oldest.revision;
            self.changes.pop_front();
        }
        if self.changes.is_empty() {
            // What a burst needed goes back.
            self.changes.shrink_to(64);
        }
    }

    /// The oldest revision from which all later changes are known.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// The changes after `revision`, oldest first; `None` when some are forgotten.
    pub(crate) fn after(&self, revision: Revision) -> Option<impl DoubleEndedIterator<Item = &Arc<Change>>> {
        let first = self.changes.partition_point(|change| change.revision <= revision);
        (revision >= self.floor).then(|| self.changes.range(first..))
    }

    /// What has to be put in place of current objects to see the state at `revision`; `None` when it is forgotten.
    pub(crate) fn undo(&self, revision: Revision) -> Option<Undone<'_>> {
        if revision < self.compacted {
            return None;
        }
        // The oldest change after the revision knows the state at it, so it is applied last.
        let changes = self.after(revision)?.rev();
        Some(changes.map(|change| (&*change.key, change.before.as_ref())).collect())
    }
}
