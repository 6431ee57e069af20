//! Which user a container's first process runs as: `runAsUser` or the image's user, with names and groups looked up
//! in the image's `/etc/passwd` and `/etc/group`. Pure; called by `containers`.

use std::collections::BTreeSet;

use crate::{Error, GroupsPolicy, Result, Security, User};

/// Decides user, group and further groups. `image_user` is the image config's (`uid`, `name`, `uid:gid`, `name:group`
/// or empty); `passwd` and `group` are the image's files, empty when it has none.
pub(super) fn resolve(security: &Security, image_user: &str, passwd: &str, group: &str) -> Result<User> {
    let (image_name, image_group) = match image_user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (image_user, None),
    };
    let wanted = security.uid.map(|uid| uid.to_string());
    let user_text = wanted.as_deref().unwrap_or(image_name);
    let entry = find(passwd, user_text);
    let uid = match (user_text, &entry) {
        ("", _) => 0,
        (_, Some(entry)) => entry.id,
        (text, None) => number(text).ok_or_else(|| not_found("user", text, "passwd"))?,
    };
    let entry = entry.or_else(|| find(passwd, &uid.to_string()));
    let gid = match (security.gid, image_group) {
        (Some(gid), _) => gid,
        (None, Some(text)) if security.uid.is_none() => group_id(group, text)?,
        _ => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups: BTreeSet<u32> = security.supplemental_groups.iter().copied().collect();
    if security.groups_policy == GroupsPolicy::Merge
        && let Some(entry) = &entry
    {
        groups.extend(memberships(group, entry.name));
    }
    groups.insert(gid);
    Ok(User { uid, gid, groups: groups.into_iter().collect() })
}

struct Entry<'a> {
    name: &'a str,
    id: u32,
    gid: u32,
}

/// The line of `passwd` for a user's name or number; the name counts first.
fn find<'a>(passwd: &'a str, user: &str) -> Option<Entry<'a>> {
    let entries = || {
        passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, id, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(Entry { name, id: number(id)?, gid: number(gid)? })
        })
    };
    let by_name = entries().find(|entry| entry.name == user);
    by_name.or_else(|| number(user).and_then(|id| entries().find(|entry| entry.id == id)))
}

fn group_id(group: &str, text: &str) -> Result<u32> {
    let named = groups(group).find(|(name, ..)| *name == text).map(|(_, id, _)| id);
    named.or_else(|| number(text)).ok_or_else(|| not_found("group", text, "group"))
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    groups(group)
        .filter(move |(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, id, _)| id)
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, number(id)?, fields.next().unwrap_or("")))
    })
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn not_found(what: &str, name: &str, file: &str) -> Error {
    Error::InvalidSpec(format!("unable to find {what} {name}: no matching entries in {file} file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:101:201::/:/bin/false\nbroken\n1000:x:7:8::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:201:\naudio:x:29:web,root\nvideo:x:44:web\n";

    #[test]
    fn the_user_comes_from_the_spec_or_the_image_and_its_groups_from_the_files() {
        let check = |security: &Security, image_user: &str, uid: u32, gid: u32, groups: &[u32]| {
            let user = resolve(security, image_user, PASSWD, GROUP).unwrap();
            assert_eq!(user, User { uid, gid, groups: groups.to_vec() }, "{image_user}");
        };
        let none = Security::default();
        check(&none, "", 0, 0, &[0, 29]);
        check(&none, "root", 0, 0, &[0, 29]);
        check(&none, "web", 101, 201, &[29, 44, 201]);
        check(&none, "101", 101, 201, &[29, 44, 201]);
        check(&none, "web:audio", 101, 29, &[29, 44]);
        check(&none, "55", 55, 0, &[0]);
        check(&none, "55:66", 55, 66, &[66]);
        check(&none, "1000", 7, 8, &[8]);
        let uid = Security { uid: Some(101), ..Security::default() };
        check(&uid, "root:root", 101, 201, &[29, 44, 201]);
        let both =
            Security { uid: Some(5), gid: Some(6), supplemental_groups: vec![9, 6], ..Security::default() };
        check(&both, "web", 5, 6, &[6, 9]);
        let gid = Security { gid: Some(6), ..Security::default() };
        check(&gid, "web", 101, 6, &[6, 29, 44]);
        let strict = Security {
            groups_policy: GroupsPolicy::Strict,
            supplemental_groups: vec![3],
            ..Security::default()
        };
        check(&strict, "web", 101, 201, &[3, 201]);
    }

    #[test]
    fn unknown_names_are_refused() {
        let check = |image_user: &str, problem: &str| {
            let error = resolve(&Security::default(), image_user, PASSWD, GROUP).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid container: {problem}"));
        };
        check("nobody", "unable to find user nobody: no matching entries in passwd file");
        check("web:nobody", "unable to find group nobody: no matching entries in group file");
    }
}
