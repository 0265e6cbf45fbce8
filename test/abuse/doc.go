// Package abuse does to whole nodes what unauthenticated, broken and malicious clients do to servers. The name of a
// test has the number of its row in the abuse table, or of the advisory that it is for; docs/security-tests.md lists
// all rows with their tests, here and in the packages.
//
// In every test another client, the bystander, is logged in from beginning to end. It must still get an answer at the
// end, and the node must not log an error.
package abuse
