//! Watches: a stream of changes from a revision on, for one filter. Upstream's rules: `apiserver/pkg/storage/cacher`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use edgek_api::object::Meta;
use edgek_api::resource::Resource;
use edgek_base_telemetry::metrics::CounterVec;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::history::Change;
use crate::{Filter, Frame, Object, Revision};

/// Events that may wait for a watcher. One that is further behind is closed; its client resumes at the last revision
/// it saw.
const QUEUE: usize = 1024;

/// How long a watcher without news waits for a bookmark, provided that something changes in its collection.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

static SLOW: CounterVec = CounterVec::new(
    "apiserver_terminated_watchers_total",
    "Watchers closed because they read too slowly.",
    &["group", "resource"],
);

/// What a watch asks for.
#[derive(Debug, Clone, Default)]
pub struct WatchOptions {
    /// Which objects.
    pub filter: Filter,
    /// Where it starts.
    pub start: Start,
    /// Whether the client allows bookmarks.
    pub bookmarks: Bookmarks,
}

/// Where a watch starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// All objects as [`EventKind::Added`], then changes: a watch with `resourceVersion` unset or 0.
    #[default]
    Objects,
    /// As [`Start::Objects`], with a bookmark between objects and changes if bookmarks are allowed:
    /// `sendInitialEvents=true`.
    InitialEvents {
        /// The `resourceVersion`; 0 when unset.
        not_older_than: Revision,
    },
    /// The changes after a revision.
    After(Revision),
    /// The changes from now on: `sendInitialEvents=false` with `resourceVersion` unset or 0.
    Now,
}

/// Whether a watch gets bookmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bookmarks {
    /// It does not.
    #[default]
    None,
    /// `allowWatchBookmarks=true`.
    Allowed,
}

/// What an event says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created, or began to match the filter.
    Added,
    /// It was changed.
    Modified,
    /// It was deleted, or ceased to match. The object is the last state that matched.
    Deleted,
    /// Everything up to the object's revision has been sent.
    Bookmark,
}

/// A change as one watcher sees it.
#[derive(Debug, Clone)]
pub struct WatchEvent {
    /// What happened.
    pub kind: EventKind,
    /// The object with the revision of the change, shared by all watchers of it.
    pub frame: Arc<Frame>,
}

impl EventKind {
    /// The `type` of the event: `ADDED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
        }
    }
}

impl WatchEvent {
    /// The object.
    pub fn object(&self) -> &Arc<Object> {
        self.frame.object()
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        self.frame.object().revision()
    }

    /// A change as seen through a filter; `None` when it concerns none of its objects.
    pub(crate) fn seen(change: &Change, filter: &Filter) -> Option<Self> {
        let matched = change.before.as_ref().is_some_and(|before| filter.matches(before));
        let after = change.after.as_ref().filter(|frame| filter.matches(frame.object()));
        let (kind, frame) = match (matched, after) {
            (false, None) => return None,
            (false, Some(frame)) => (EventKind::Added, frame),
            (true, Some(frame)) => (EventKind::Modified, frame),
            (true, None) => (EventKind::Deleted, change.gone()?),
        };
        Some(Self { kind, frame: frame.clone() })
    }

    fn added(object: Arc<Object>) -> Self {
        Self { kind: EventKind::Added, frame: Frame::new(object) }
    }
}

/// What a bookmark says besides its revision.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Progress,
    InitialEventsEnd,
}

/// A bookmark: an object of the kind with nothing but a revision.
pub(crate) fn bookmark(resource: &Resource, revision: Revision, mark: Mark) -> WatchEvent {
    let annotations = match mark {
        Mark::Progress => "",
        Mark::InitialEventsEnd => r#""annotations":{"k8s.io/initial-events-end":"true"}"#,
    };
    let (version, kind) = (resource.api_version(), &resource.kind);
    let bytes = format!(r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{{annotations}}}}}"#);
    let object = Object::stamped(&Bytes::from(bytes), revision, Meta::default());
    WatchEvent { kind: EventKind::Bookmark, frame: Frame::new(object) }
}

/// Events that come before those from the queue.
#[derive(Debug)]
pub(crate) enum Backlog {
    /// Every object, then perhaps a bookmark.
    Objects(vec::IntoIter<Arc<Object>>, Option<WatchEvent>),
    /// Changes from the history.
    Changes(vec::IntoIter<WatchEvent>),
}

impl Backlog {
    fn next(&mut self) -> Option<WatchEvent> {
        match self {
            Self::Objects(objects, end) => objects.next().map(WatchEvent::added).or_else(|| end.take()),
            Self::Changes(events) => events.next(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Objects(objects, end) => objects.len() == 0 && end.is_none(),
            Self::Changes(events) => events.len() == 0,
        }
    }
}

/// A running watch: a stream of events in revision order, without gaps and repetitions. It ends when its reader is too
/// slow, when the resource is removed and when the store closes.
#[derive(Debug)]
pub struct Watch {
    cache: Arc<Cache>,
    id: u64,
    backlog: Backlog,
    queue: mpsc::Receiver<WatchEvent>,
    /// The revision up to which the reader knows everything.
    sent: Revision,
}

impl Watch {
    pub(crate) fn new(
        cache: Arc<Cache>,
        id: u64,
        backlog: Backlog,
        queue: mpsc::Receiver<WatchEvent>,
        sent: Revision,
    ) -> Self {
        Self { cache, id, backlog, queue, sent }
    }

    /// A bookmark at the current revision, when the reader has seen all events and the revision has moved since the
    /// last. For the caller that allows bookmarks and is about to end the watch, because its time is over.
    pub fn bookmark(&mut self) -> Option<WatchEvent> {
        if !self.backlog.is_empty() {
            return None;
        }
        // The queue cannot grow while the revision is being read.
        let queue = &self.queue;
        let revision = self.cache.read(|_, current| queue.is_empty().then_some(current))?;
        if revision <= self.sent {
            return None;
        }
        self.sent = revision;
        Some(bookmark(self.cache.resource(), revision, Mark::Progress))
    }
}

impl Stream for Watch {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        let event = match self.backlog.next() {
            Some(event) => Some(event),
            None => match self.queue.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(event) => event,
            },
        };
        if let Some(event) = &event {
            // The objects that a watch starts with have revisions below the one it starts at.
            self.sent = self.sent.max(event.revision());
        }
        Poll::Ready(event)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cache.forget_watcher(self.id);
    }
}

/// The writing end of a watch.
#[derive(Debug)]
struct Watcher {
    id: u64,
    filter: Filter,
    bookmarks: Bookmarks,
    queue: mpsc::Sender<WatchEvent>,
    /// When it last got something.
    at: Instant,
}

/// The watchers of a collection. All run on the publisher's thread: a watcher costs a comparison per change and no task.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: Vec<Watcher>,
    next_id: u64,
    /// When bookmarks were last looked after.
    rounds: Option<Instant>,
}

impl Watchers {
    pub(crate) fn add(&mut self, filter: Filter, bookmarks: Bookmarks) -> (u64, mpsc::Receiver<WatchEvent>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        self.next_id += 1;
        self.watchers.push(Watcher { id: self.next_id, filter, bookmarks, queue, at: Instant::now() });
        (self.next_id, receiver)
    }

    pub(crate) fn len(&self) -> usize {
        self.watchers.len()
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.watchers.retain(|watcher| watcher.id != id);
    }

    /// Ends all watches.
    pub(crate) fn clear(&mut self) {
        self.watchers.clear();
    }

    /// Hands a change to all that it concerns; now and then a bookmark to the others.
    pub(crate) fn publish(&mut self, change: &Change, resource: &Resource, now: Instant) {
        let mut round = self.round(now).then(|| bookmark(resource, change.revision, Mark::Progress));
        self.watchers.retain_mut(|watcher| {
            let event = WatchEvent::seen(change, &watcher.filter).or_else(|| {
                let due = watcher.bookmarks == Bookmarks::Allowed && now - watcher.at >= BOOKMARK_EVERY;
                round.as_mut().filter(|_| due).cloned()
            });
            event.is_none_or(|event| watcher.send(event, resource, now))
        });
    }

    fn round(&mut self, now: Instant) -> bool {
        let last = *self.rounds.get_or_insert(now);
        let due = now - last >= BOOKMARK_EVERY;
        if due {
            self.rounds = Some(now);
        }
        due
    }
}

impl Watcher {
    /// Whether the watcher stays.
    fn send(&mut self, event: WatchEvent, resource: &Resource, now: Instant) -> bool {
        self.at = now;
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                SLOW.add(&[&resource.group, &resource.plural], 1);
                false
            }
        }
    }
}
