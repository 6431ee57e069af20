//! Files that containers see change all at once: a folder of the time of writing, the link `..data` to it, and a link
//! per file through `..data`, as upstream's atomic writer lays them out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Its contents.
    pub(super) data: Vec<u8>,
    /// Its permission bits.
    pub(super) mode: u32,
    /// Its user, where it is not root.
    pub(super) user: Option<u32>,
}

/// The files of a volume by relative path.
pub(super) type Payload = BTreeMap<String, File>;

/// Writes a volume's files, all at once, unless they are there already. With a group (`fsGroup`) they belong to it.
pub(super) fn write(folder: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    if let Some(path) = payload.keys().find(|path| !is_inside(path)) {
        return Err(io::Error::other(format!("path {path:?} leads out of the volume")));
    }
    let old = fs::read_link(folder.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| holds(&folder.join(old), payload)) {
        return Ok(());
    }
    let name = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%f"));
    let fresh = folder.join(&name);
    make_folder(&fresh, group)?;
    for (path, file) in payload {
        write_file(&fresh, path, file, group)?;
    }
    let link = folder.join(DATA_NEW);
    remove_if_there(&link)?;
    symlink(&name, &link)?;
    fs::rename(&link, folder.join(DATA))?;
    link_names(folder, payload)?;
    if let Some(old) = old.filter(|old| old.as_os_str() != name.as_str()) {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(())
}

fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && !path.starts_with("..") && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Whether a folder holds exactly these files.
fn holds(folder: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &File)| {
        let path = folder.join(path);
        let mode = fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o777);
        fs::read(&path).is_ok_and(|data| data == file.data)
            && mode.is_ok_and(|mode| mode & file.mode == file.mode)
    };
    payload.iter().all(same) && count(folder) == payload.len()
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

fn write_file(folder: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let mut parent = folder.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for part in &parts[..parts.len() - 1] {
        parent.push(part);
        if !parent.is_dir() {
            make_folder(&parent, group)?;
        }
    }
    let path = folder.join(path);
    fs::write(&path, &file.data)?;
    chown(&path, file.user, group)?;
    // A group that owns a volume can read it.
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    fs::set_permissions(&path, Permissions::from_mode(mode))
}

fn make_folder(path: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir(path)?;
    chown(path, None, group)?;
    let mode = if group.is_some() { 0o2755 } else { 0o755 };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Links every first part of a path through `..data`, and removes the links of paths that are gone.
fn link_names(folder: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    for name in &names {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(PathBuf::from(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if !name.starts_with("..") && !names.contains(name.as_str()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_change_all_at_once_and_old_ones_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let payload = |files: &[(&str, &str)]| -> Payload {
            let file = |text: &str| File { data: text.into(), mode: 0o640, user: None };
            files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
        };
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).ok();
        write(folder.path(), &payload(&[("a", "1"), ("deep/er/b", "2")]), None).unwrap();
        assert_eq!([read("a"), read("deep/er/b")], [Some("1".to_owned()), Some("2".to_owned())]);
        let mode = fs::metadata(folder.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let first = fs::read_link(folder.path().join(DATA)).unwrap();
        write(folder.path(), &payload(&[("a", "1"), ("deep/er/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(folder.path().join(DATA)).unwrap(), first, "nothing has changed");
        write(folder.path(), &payload(&[("a", "3")]), None).unwrap();
        assert_eq!([read("a"), read("deep/er/b")], [Some("3".to_owned()), None]);
        assert!(!folder.path().join(first).exists());
        assert!(!folder.path().join("deep").is_symlink());
        assert!(write(folder.path(), &payload(&[("../a", "3")]), None).is_err());
    }
}
