//! Tests of `image`.

use super::*;

#[test]
fn durations_of_pulls_look_as_in_go() {
    for (millis, expected) in [(0, "0s"), (812, "812ms"), (1500, "1.5s"), (2000, "2s"), (62_250, "1m2.25s")] {
        assert_eq!(go_millis(Duration::from_millis(millis)), expected);
    }
}
