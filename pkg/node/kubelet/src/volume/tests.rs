//! Tests of `volume`.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;

#[test]
fn a_sub_path_is_made_and_never_leads_out_of_its_volume() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    symlink("/etc", volume.join("link")).unwrap();
    let container: Container = serde_json::from_value(json!({"name": "c"})).unwrap();
    let mounted = [("v".to_owned(), MountedVolume { host_path: volume.clone(), read_only: false })].into();
    let env = [("POD".to_owned(), "web-0".to_owned())].into();
    let check = |wanted: serde_json::Value, expected: Result<&str, &str>| {
        let wanted: VolumeMount = serde_json::from_value(wanted).unwrap();
        let made = container_mount(&container, &mounted, &env, &wanted).map_err(|error| error.to_string());
        match (made, expected) {
            (Ok(mount), Ok(path)) => assert_eq!(mount.source, MountSource::Bind(volume.join(path))),
            (Err(text), Err(expected)) => assert!(text.starts_with(expected), "{text}"),
            (made, _) => panic!("{wanted:?}: {made:?}"),
        }
    };
    let mount = |key: &str, path: &str| json!({"name": "v", "mountPath": "/m", key: path});
    check(mount("subPath", "a/b"), Ok("a/b"));
    check(mount("subPathExpr", "$(POD)/log"), Ok("web-0/log"));
    check(mount("subPath", "../other"), Err("unable to provision SubPath `../other`"));
    check(mount("subPath", "link"), Err("unable to provision SubPath `link`"));
    check(
        json!({"name": "w", "mountPath": "/m"}),
        Err("cannot find volume \"w\" to mount into container \"c\""),
    );
    assert!(volume.join("a/b").is_dir());
}

#[test]
fn a_host_path_is_what_its_type_says() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, kind: &str, expected: Result<(), &str>| {
        let path = folder.path().join(name);
        let source = HostPathVolumeSource { path: path.display().to_string(), type_: Some(kind.to_owned()) };
        let words = |text: String| text.split(" is ").last().unwrap_or_default().to_owned();
        assert_eq!(host_path(&source).map_err(words), expected.map_err(str::to_owned), "{name} {kind}");
    };
    check("none", "Directory", Err("not a directory"));
    check("made", "DirectoryOrCreate", Ok(()));
    check("made", "Directory", Ok(()));
    check("made", "File", Err("not a file"));
    check("file", "FileOrCreate", Ok(()));
    check("file", "File", Ok(()));
    check("file", "Socket", Err("not a socket file"));
}

#[test]
fn a_sub_path_is_made_inside_its_volume_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (volume, outside) = (folder.path().join("volume"), folder.path().join("outside"));
    for path in [&volume, &outside] {
        std::fs::create_dir(path).unwrap();
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, volume.join(name)).unwrap();
    link("../outside", "out");
    link("../missing", "dangling");
    link("data", "in");
    assert_eq!(sub_path_of(&volume, "data/a").unwrap(), volume.canonicalize().unwrap().join("data/a"));
    assert!(sub_path_of(&volume, "in/b").is_ok());
    assert!(volume.join("data/b").is_dir());
    for path in ["out/c", "out", "dangling/c", "../outside/c", "/etc"] {
        let error = sub_path_of(&volume, path).unwrap_err();
        assert!(error.to_string().contains("leads out of the volume"), "{path}: {error}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!folder.path().join("missing").exists());
}
