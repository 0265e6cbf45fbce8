package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/node/terminal"
)

// passwordFlags say where a password comes from. It never comes from the command line, which everybody on the machine
// can read.
type passwordFlags struct {
	Generate     bool   `xor:"source" help:"Make a strong password and print it, once."`
	Stdin        bool   `xor:"source" help:"Read the password from the first line of standard input."`
	PasswordFile string `xor:"source" type:"path" placeholder:"FILE" help:"Read the password from the first line of a file."`
}

// read returns the password.
func (f *passwordFlags) read(s streams) (string, error) {
	switch {
	case f.Generate:
		return generate(rand.Reader)
	case f.Stdin:
		return terminal.ReadLine(s.in)
	case f.PasswordFile != "":
		file, err := os.Open(f.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		defer file.Close()
		warnLoose(s, f.PasswordFile)
		return terminal.ReadLine(file)
	case !terminal.Is(s.in):
		return "", errors.New(
			"there is no terminal to ask for the password: use --stdin, --password-file or --generate")
	}
	first, err := terminal.ReadSecret(s.in, s.err, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := terminal.ReadSecret(s.in, s.err, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two are not the same; nothing was changed")
	}
	return first, nil
}

// show prints a generated password, alone on standard output.
func (f *passwordFlags) show(s streams, password string) {
	if f.Generate {
		fmt.Fprintln(s.err, "the password, which is not kept anywhere and not shown again:")
		fmt.Fprintln(s.out, password)
	}
}

// alphabet has no characters that are taken for one another.
const alphabet = "abcdefghjkmnpqrstuvwxyz23456789"

// generate returns four groups of five characters: 99 bits.
func generate(random io.Reader) (string, error) {
	var b strings.Builder
	var one [1]byte
	for b.Len() < 23 {
		if b.Len()%6 == 5 {
			b.WriteByte('-')
			continue
		}
		if _, err := io.ReadFull(random, one[:]); err != nil {
			return "", fmt.Errorf("make a password: %w", err)
		}
		if int(one[0]) < 256/len(alphabet)*len(alphabet) { // what is above would favour the first letters
			b.WriteByte(alphabet[int(one[0])%len(alphabet)])
		}
	}
	return b.String(), nil
}

// advice says what to do about a refused password.
func advice(err error) string {
	switch {
	case errors.Is(err, auth.RefusedPasswordShort):
		return ": use a longer one (auth.password_min), or --generate"
	case errors.Is(err, auth.RefusedPasswordCommon):
		return ": use --generate for a good one"
	case errors.Is(err, auth.RefusedNameTaken):
		return " (names of removed accounts stay taken for a year)"
	}
	return ""
}
