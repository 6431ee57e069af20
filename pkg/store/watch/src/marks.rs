//! `Marks`: a few bits of an object's labels and field values (a Bloom filter), kept beside the object in the map of its
//! collection. A list with a selector passes over most objects by these bits, without touching the objects themselves,
//! which lie all over the memory.

use std::hash::{DefaultHasher, Hash, Hasher};

use edgek_api::object::Meta;
use edgek_api::resource::Resource;
use edgek_api::selector::field::Key;
use edgek_api::selector::label::Operator;

use crate::Filter;

/// A set of hashed labels and field values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks(u64);

impl Marks {
    /// The marks of an object.
    pub(crate) fn of(meta: &Meta) -> Self {
        let labels = meta.labels.iter().map(|(key, value)| bits(&(&**key, &**value)));
        let fields = meta.fields.iter().map(|value| &**value).enumerate();
        let fields = fields.filter(|(_, value)| !value.is_empty()).map(|field| bits(&field));
        Self(labels.chain(fields).fold(0, |marks, bits| marks | bits))
    }

    /// The marks that every object has which a filter means.
    pub(crate) fn required(filter: &Filter, resource: &Resource) -> Self {
        let labels = filter.labels.requirements().iter().filter_map(|requirement| {
            match (requirement.operator, requirement.values.as_slice()) {
                (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => {
                    Some(bits(&(&*requirement.key, &**value)))
                }
                _ => None,
            }
        });
        let fields = (0..resource.fields.len())
            .filter_map(|index| Some((index, filter.fields.required(Key::Field(index))?)))
            .filter(|(_, value)| !value.is_empty())
            .map(|field| bits(&field));
        Self(labels.chain(fields).fold(0, |marks, bits| marks | bits))
    }

    /// Whether these include all of `required`: if not, the object is surely not meant.
    pub(crate) fn include(self, required: Self) -> bool {
        self.0 & required.0 == required.0
    }
}

/// Two bits: with the few labels and fields that objects have, one in twenty passes that is not meant.
fn bits(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    let hash = hasher.finish();
    (1 << (hash % 64)) | (1 << ((hash >> 32) % 64))
}

#[cfg(test)]
mod tests {
    use edgek_api::resource::Catalog;
    use edgek_api::selector::{field, label};

    use super::*;

    #[test]
    fn an_object_that_a_filter_means_has_the_required_marks() {
        let resource = Catalog::builtin().find("", "v1", "pods").unwrap();
        let pod = br#"{"metadata":{"labels":{"app":"web","tier":"x"},"name":"p","namespace":"d"},"spec":{"nodeName":"n"}}"#;
        let meta = Meta::parse(pod, resource).unwrap();
        let check = |labels: &str, fields: &str, expected: bool| {
            let filter = Filter {
                labels: label::Selector::parse(labels).unwrap(),
                fields: field::Selector::parse(fields, resource).unwrap(),
                ..Filter::default()
            };
            let marked = Marks::of(&meta).include(Marks::required(&filter, resource));
            assert_eq!(marked, expected, "{labels} {fields}");
        };
        for selector in [
            "",
            "app=web",
            "app==web,tier",
            "app in (web)",
            "app in (a,b)",
            "app!=a",
            "!none",
            "none notin (a)",
        ] {
            check(selector, "", true);
        }
        check("", "spec.nodeName=n,metadata.name=p", true);
        check("", "spec.nodeName!=m", true);
        check("app=other", "", false);
        check("", "spec.nodeName=m", false);
    }
}
