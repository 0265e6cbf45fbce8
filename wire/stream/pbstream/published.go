package pbstream

import _ "embed" // for the published files

//go:embed dictionary.json
var dictionary string

//go:embed vectors.json
var vectors string

// Dictionary returns the tables to which the numbers on the wire refer, as JSON: namespaces, words, enumerations and
// typed forms. docs/protocol/compact.md says how to read it.
func Dictionary() string { return dictionary }

// Vectors returns examples as JSON: what client and server say to each other, in XML and in bytes.
func Vectors() string { return vectors }
