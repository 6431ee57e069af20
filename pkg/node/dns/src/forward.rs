//! `Forwarder`: asks the host's name servers for names that are not of the cluster, and remembers what they say for
//! a while. The same question is under way once, so that a server that asks us in turn can not make a storm.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::answer::{grow_older, lifetime};
use crate::upstream::Upstreams;
use crate::wire::{self, Query, Transport};

/// How many answers are remembered.
const REMEMBERED: usize = 1000;
/// No answer is remembered longer.
const LONGEST_MEMORY: Duration = Duration::from_secs(30);
/// Nor one that is larger.
const LARGEST_REMEMBERED: usize = 2048;

type Key = Vec<u8>;
type Given = Option<Arc<Remembered>>;

/// Asks other name servers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    upstreams: Upstreams,
    memory: Mutex<HashMap<Key, Arc<Remembered>>>,
    under_way: Mutex<HashMap<Key, Arc<OnceCell<Given>>>>,
}

#[derive(Debug)]
struct Remembered {
    answer: Vec<u8>,
    since: Instant,
    until: Instant,
}

impl Forwarder {
    /// `own` is the address at which the cluster's names are served.
    pub(crate) fn new(resolv_conf: PathBuf, own: IpAddr) -> Self {
        let upstreams = Upstreams::new(resolv_conf, own);
        Self { upstreams, memory: Mutex::default(), under_way: Mutex::default() }
    }

    /// The answer that is remembered.
    pub(crate) fn remembered(&self, query: &Query<'_>, transport: Transport) -> Option<Vec<u8>> {
        let memory = self.memory.lock();
        let remembered = memory.get(&query.key(transport))?;
        (remembered.until > Instant::now()).then(|| remembered.answer_to(query))
    }

    /// The answer of a name server; `None` when none gives one.
    pub(crate) async fn ask(&self, query: &Query<'_>, transport: Transport) -> Option<Vec<u8>> {
        let key = query.key(transport);
        let cell = self.under_way.lock().entry(key.clone()).or_default().clone();
        let given = cell.get_or_init(|| self.fetch(&key, query, transport)).await.clone();
        self.under_way.lock().remove(&key);
        Some(given?.answer_to(query))
    }

    async fn fetch(&self, key: &Key, query: &Query<'_>, transport: Transport) -> Given {
        let answer = self.upstreams.ask(query, transport).await?;
        let since = Instant::now();
        let lasts = lifetime(&answer).unwrap_or_default().min(LONGEST_MEMORY);
        let remembered = Arc::new(Remembered { answer, since, until: since + lasts });
        if !lasts.is_zero() && remembered.answer.len() <= LARGEST_REMEMBERED {
            let mut memory = self.memory.lock();
            if memory.len() >= REMEMBERED {
                memory.retain(|_, remembered| remembered.until > since);
            }
            if memory.len() >= REMEMBERED {
                memory.clear();
            }
            memory.insert(key.clone(), remembered.clone());
        }
        Some(remembered)
    }
}

impl Remembered {
    /// The answer as if it were given to this query now.
    fn answer_to(&self, query: &Query<'_>) -> Vec<u8> {
        let mut answer = self.answer.clone();
        let question = query.question();
        // It was checked that the answer repeats the question.
        answer[..2].copy_from_slice(&query.id().to_be_bytes());
        answer[12..12 + question.len()].copy_from_slice(question);
        let age = u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        // An answer whose records cannot be read is not remembered, and has no age.
        let _ = grow_older(&mut answer, age);
        answer
    }
}

/// A query of our own for a name; `None` when it is none.
pub(crate) fn question(name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&wire::IN.to_be_bytes());
    (message.len() <= 12 + 255 + 4).then_some(message)
}
