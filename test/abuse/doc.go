// Package abuse does to whole nodes what strangers, broken clients and attackers do to servers. Its tests bear the number of their row in the
// abuse table, or of the advisory that they learn from; docs/security-tests.md lists all rows with the tests that hold them, here and in
// the packages.
//
// In every test a bystander is logged in all the while and must still get an answer at the end, and the node must not log an error.
package abuse
