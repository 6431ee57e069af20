//! Label and field selectors: no input makes them panic, and what they print means the same when it is read again.
#![no_main]

use edgek_api::resource::Catalog;
use edgek_api::selector::{field, label};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = label::Selector::parse(text) {
        let again = label::Selector::parse(&selector.to_string()).expect("a printed label selector is one");
        assert_eq!(again, selector);
    }
    let pods = Catalog::builtin().find("", "v1", "pods").expect("pods are built in");
    if let Ok(selector) = field::Selector::parse(text, pods) {
        let again = field::Selector::parse(&selector.to_string(), pods).expect("a printed field selector is one");
        assert_eq!(again.terms(), selector.terms());
    }
});
