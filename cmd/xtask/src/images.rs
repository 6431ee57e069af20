//! `images`: the container images that tests and the conformance suite run, made without a container engine and without
//! any image registry, under upstream's names.
//!
//! Results: `build/images/<name>.tar`, OCI layouts that containerd imports under every name of the image, for the
//! system tests; `build/images/registry/` and `build/conformance/registry/`, storage folders of Debian's
//! docker-registry (see [`serve`]) with the images of the tests and of the whole suite.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{digest, machine, process, workspace};
use layers::Builder;
use oci::Layer;
use table::{IMAGES, Use};

mod layers;
mod oci;
mod serve;
mod table;

pub(crate) use serve::{Args as ServeArgs, config as registry_config, run as serve};

/// Makes what the system tests run.
pub(crate) fn run() -> Result<()> {
    make(&workspace::build_dir().join("images"), Use::Tests)
}

/// Makes what the conformance suite runs; returns the registry's storage folder.
pub(crate) fn run_suite() -> Result<PathBuf> {
    let folder = workspace::build_dir().join("conformance");
    make(&folder, Use::Suite)?;
    Ok(folder.join("registry"))
}

/// Makes images below a folder, unless the last run had the same sources, recipe and compilers.
fn make(folder: &Path, purpose: Use) -> Result<()> {
    let builder = Builder::new(workspace::build_dir().join("images/work"))?;
    fs::create_dir_all(folder)?;
    let lock = fs::File::create(folder.join(".lock"))?;
    lock.lock().context("wait for another run of images")?;

    let key = cache_key(&builder)?;
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == key) {
        println!("images: up to date");
        return Ok(());
    }
    let registry = oci::Registry::create(&folder.join("registry"))?;
    let mut layers: BTreeMap<&str, Layer> = BTreeMap::new();
    for image in IMAGES.iter().filter(|image| purpose == Use::Suite || image.used == Use::Tests) {
        println!("images: make {}", image.name);
        for layer in image.layers {
            if !layers.contains_key(layer) {
                layers.insert(layer, Layer::new(&builder.layer(layer)?)?);
            }
        }
        let stack: Vec<&Layer> = image.layers.iter().filter_map(|layer| layers.get(layer)).collect();
        let built = oci::Image::new(&stack, &image.config)?;
        if purpose == Use::Tests {
            built.write_archive(&folder.join(format!("{}.tar", image.name)), image.names)?;
        }
        registry.add(&built, image.names)?;
    }
    workspace::write(&stamp, key.as_bytes())?;
    Ok(())
}

/// Everything the images depend on, this recipe included.
fn cache_key(builder: &Builder) -> Result<String> {
    let go = process::output(process::go(builder.module()).arg("version"))?;
    let pinned = ["go.mod", "go.sum"].map(|name| digest::sha256_file(&builder.module().join(name)));
    let [module, sums] = pinned;
    let sources = digest::tree(&builder.module().join("images"))?;
    let packages = machine::package_sources()?.join("\n");
    let recipe = [
        include_str!("images.rs"),
        include_str!("images/layers.rs"),
        include_str!("images/oci.rs"),
        include_str!("images/table.rs"),
    ]
    .concat();
    let all = format!("{go}\n{}\n{}\n{sources}\n{packages}\n{recipe}", module?, sums?);
    Ok(digest::sha256(all.as_bytes()))
}
