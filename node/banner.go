package node

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// phrases of the banner in one language.
type phrases struct {
	running, domain, startTLS, directTLS, compact, webSocket, api, private string
	data                                                                   string
	people, connect, address, server, selfSigned, fingerprint, stopping    string
}

var english = phrases{
	running:     "Posthouse %s is running.",
	domain:      "Domain",
	startTLS:    "XMPP, STARTTLS",
	directTLS:   "XMPP, direct TLS",
	compact:     "Compact streams",
	webSocket:   "WebSocket",
	api:         "HTTP API",
	private:     "Health, metrics",
	data:        "Data",
	people:      "Add people, in another terminal:",
	connect:     "Connect with any XMPP client:",
	address:     "address %s, and the password that you gave",
	server:      "server %s, port %s, where the client asks for it",
	selfSigned:  "The certificate was made here, for development: let the client trust it. SHA-256:",
	fingerprint: "%s",
	stopping:    "Ctrl-C stops the node.",
}

var chinese = phrases{
	running:     "Posthouse %s 已启动。",
	domain:      "域名",
	startTLS:    "XMPP（STARTTLS）",
	directTLS:   "XMPP（直接 TLS）",
	compact:     "紧凑协议",
	webSocket:   "WebSocket",
	api:         "HTTP 接口",
	private:     "健康检查与指标",
	data:        "数据目录",
	people:      "添加用户（请在另一个终端中执行）：",
	connect:     "使用任意 XMPP 客户端连接：",
	address:     "账号 %s，以及您设置的密码",
	server:      "如果客户端询问服务器：%s，端口 %s",
	selfSigned:  "证书是本机为开发而生成的自签名证书，请在客户端中选择信任。SHA-256：",
	fingerprint: "%s",
	stopping:    "按 Ctrl-C 停止。",
}

// phrasesFor takes the value of LANG, such as zh_CN.UTF-8.
func phrasesFor(language string) phrases {
	if strings.HasPrefix(strings.ToLower(language), "zh") {
		return chinese
	}
	return english
}

// writeBanner greets whoever started the node: where it listens, how to add people, how to connect.
func writeBanner(w io.Writer, r *Runtime, command, language string) {
	p := phrasesFor(language)
	var b strings.Builder
	fmt.Fprintf(&b, "\n"+p.running+"\n\n", r.Version)
	row := func(name, value string) {
		fmt.Fprintf(&b, "  %s%s  %s\n", name, strings.Repeat(" ", max(0, 18-width(name))), value)
	}
	row(p.domain, r.Config.Domain)
	var host, port string
	order := []string{"xmpp", "xmpp_tls", "compact", "http", "https", "metrics"}
	all := r.Listening()
	slices.SortStableFunc(all, func(a,
		b Listening) int {
		return cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind))
	})
	for _, l := range all {
		switch l.Kind {
		case "xmpp":
			row(p.startTLS, l.Address)
			if host == "" {
				host, port, _ = net.SplitHostPort(l.Address)
			}
		case "xmpp_tls":
			row(p.directTLS, l.Address)
		case "compact":
			row(p.compact, l.Address)
		case "http":
			row(p.webSocket, "ws://"+l.Address+webSocketPath)
			row(p.api, "http://"+l.Address+"/v1/docs")
		case "https":
			row(p.webSocket, "wss://"+l.Address+webSocketPath)
			row(p.api, "https://"+l.Address+"/v1/docs")
		case "metrics":
			row(p.private, "http://"+l.Address+"/health/ready, /metrics")
		}
	}
	row(p.data, r.Folder.Path)
	fmt.Fprintf(&b, "\n%s\n\n    %s user add alice\n    %[2]s user add bob\n", p.people, command)
	fmt.Fprintf(&b, "\n%s\n\n    "+p.address+"\n", p.connect, "alice@"+r.Config.Domain)
	if host != "" {
		fmt.Fprintf(&b, "    "+p.server+"\n", host, port)
	}
	if r.selfMade {
		if cert, err := r.Certificates.Get(nil); err == nil {
			fmt.Fprintf(&b, "\n%s\n    "+p.fingerprint+"\n", p.selfSigned, colons(sha256.Sum256(cert.Certificate[0])))
		}
	}
	fmt.Fprintf(&b, "\n%s\n\n", p.stopping)
	_, _ = io.WriteString(w, b.String()) // a banner that nobody can read harms nobody
}

// width counts the columns of a terminal: those of CJK characters and full-width punctuation are two wide.
func width(s string) (n int) {
	for _, r := range s {
		n++
		if r >= 0x2e80 && r < 0xffe0 {
			n++
		}
	}
	return n
}

// colons writes a fingerprint as clients show it.
func colons(sum [sha256.Size]byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
