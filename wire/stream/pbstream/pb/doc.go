// Package pb has the types that the Protocol Buffers compiler makes of compact.proto. They are for clients and for
// tests, which hold the hand-written codec of package pbstream against them; the server itself does not use them.
//
// To make them anew, with Debian's protobuf-compiler and
// google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12 in the path:
//
//	go generate ./wire/stream/pbstream/pb
package pb

//go:generate protoc --go_out=. --go_opt=paths=source_relative compact.proto
