// Package abuse attacks whole nodes as unauthenticated, broken and malicious clients do. The name of a test contains
// the number of its row in the abuse table, or of the advisory that it covers. docs/security-tests.md lists all rows
// with their tests, here and in other packages.
//
// In every test another client, the bystander, is logged in from beginning to end. It must still get an answer at the
// end, and the node must not log an error.
package abuse
