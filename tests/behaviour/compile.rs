//! What the compiler says of attributes that are wrong: at the right place, and what to write instead.

#[test]
fn wrong_attributes_are_told_at_the_users_own_code() {
    let cases = trybuild::TestCases::new();
    cases.pass("compile/right.rs");
    for case in [
        "bad_age",
        "borrowed",
        "generic",
        "key_without_cache",
        "method",
        "no_function",
        "no_result",
        "nothing_returned",
        "stub_of_nowhere",
        "unknown_option",
        "wait_for_nothing",
    ] {
        cases.compile_fail(format!("compile/{case}.rs"));
    }
}
