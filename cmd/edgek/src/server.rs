//! `edgek run server`.

use clap::ArgMatches;

use crate::bundle::{Bundle, NODE};
use crate::exit::Failure;
use crate::sources;

pub(crate) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let config = sources::config(flags)?;
    let bundle = Bundle::new(config.data_dir.join("bin"));
    bundle.unpack(&NODE)?;
    bundle.finish()?;
    Ok(())
}
