//! `TableWatch`: notices when another program takes an nftables table away, as `nft flush ruleset` does, with which many
//! machines' firewalls begin.

use futures::StreamExt as _;
use nlink::netlink::OwnedEventStream;
use nlink::netlink::nftables::types::Family;
use nlink::netlink::nftables::{NftablesEvent, NftablesGroup};
use nlink::netlink::{Connection, Nftables};

use crate::{Error, Step};

/// Watches one table of the family `ip`.
pub struct TableWatch {
    table: String,
    events: OwnedEventStream<Nftables>,
    connection: Connection<Nftables>,
    /// The table was deleted, which its owner does too, to replace it.
    suspect: bool,
}

impl TableWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn start(table: &str) -> Result<Self, Error> {
        let failed = || format!("watching nftables table {table}");
        let connection = || Connection::<Nftables>::new().step(failed);
        let events = connection()?;
        events.subscribe(&[NftablesGroup::All]).step(failed)?;
        let (events, connection) = (events.into_events().await, connection()?);
        Ok(Self { table: table.to_owned(), events, connection, suspect: false })
    }

    /// Waits until the table is not there any more. May be dropped and called again at any time.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn gone(&mut self) -> Result<(), Error> {
        let failed = || format!("watching nftables table {}", self.table);
        loop {
            if self.suspect {
                let tables = self.connection.list_tables_in(Family::Ip).await.step(failed)?;
                self.suspect = false;
                if tables.iter().all(|table| table.name != self.table) {
                    return Ok(());
                }
            }
            match self.events.next().await {
                Some(Ok(NftablesEvent::DelTable(table))) => self.suspect = table.name == self.table,
                Some(Ok(_)) => {}
                // More happened than fits: it may have been among that.
                Some(Err(error)) if error.is_no_buffer_space() => self.suspect = true,
                Some(Err(error)) => return Err(error).step(failed),
                // The namespace is gone, and with it the table and this process's network.
                None => std::future::pending().await,
            }
        }
    }
}
