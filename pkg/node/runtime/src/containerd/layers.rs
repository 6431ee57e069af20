//! Reading a file of an image without mounting it: the snapshot's mount names the directories of its layers.
//! Called by `containers` for `/etc/passwd` and `/etc/group`.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use containerd_client::types::Mount;

/// Larger files are not user tables.
const MAX_FILE: u64 = 1 << 20;

/// The text of a file of the root filesystem, from the topmost layer that has it; empty if none has. A symbolic link
/// counts as absent: it could lead out of the image.
pub(super) fn read(mounts: &[Mount], file: &str) -> String {
    for dir in directories(mounts) {
        let path = dir.join(file);
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        let deleted = metadata.file_type().is_char_device() && metadata.rdev() == 0;
        let readable = metadata.is_file() && metadata.len() <= MAX_FILE && is_inside(&path, &dir);
        return if readable && !deleted { read_lossy(&path) } else { String::new() };
    }
    String::new()
}

/// The layers' directories from the top: of an overlay its upper and lower directories, else the bound directory.
fn directories(mounts: &[Mount]) -> Vec<PathBuf> {
    let Some(mount) = mounts.last() else { return Vec::new() };
    if mount.r#type != "overlay" {
        return vec![PathBuf::from(&mount.source)];
    }
    let option = |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name));
    let upper = option("upperdir=").into_iter();
    let lower = option("lowerdir=").into_iter().flat_map(|dirs| dirs.split(':'));
    upper.chain(lower).map(PathBuf::from).collect()
}

fn is_inside(path: &Path, dir: &Path) -> bool {
    match (path.canonicalize(), dir.canonicalize()) {
        (Ok(path), Ok(dir)) => path.starts_with(dir),
        _ => false,
    }
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_wins_and_links_lead_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let layer = |name: &str, file: Option<&str>| {
            let etc = root.path().join(name).join("etc");
            std::fs::create_dir_all(&etc).unwrap();
            if let Some(text) = file {
                std::fs::write(etc.join("passwd"), text).unwrap();
            }
            root.path().join(name)
        };
        let (top, middle, bottom) =
            (layer("top", None), layer("middle", Some("new")), layer("bottom", Some("old")));
        std::os::unix::fs::symlink("/etc/hostname", bottom.join("etc/group")).unwrap();
        let overlay = Mount {
            r#type: "overlay".to_owned(),
            options: vec![
                "index=off".to_owned(),
                format!("upperdir={}", top.display()),
                format!("lowerdir={}:{}", middle.display(), bottom.display()),
            ],
            ..Mount::default()
        };
        assert_eq!(read(std::slice::from_ref(&overlay), "etc/passwd"), "new");
        assert_eq!(read(std::slice::from_ref(&overlay), "etc/group"), "");
        let bind =
            Mount { r#type: "bind".to_owned(), source: bottom.display().to_string(), ..Mount::default() };
        assert_eq!(read(&[bind], "etc/passwd"), "old");
    }
}
