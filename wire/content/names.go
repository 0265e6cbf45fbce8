package content

import "strings"

// Namespaces of what is inside the elements that carry what is said.
const (
	nsMetadata = "urn:xmpp:file:metadata:0"            // XEP-0446
	nsHashes   = "urn:xmpp:hashes:2"                   // XEP-0300
	nsURLData  = "http://jabber.org/protocol/url-data" // XEP-0103
	nsStyling  = "urn:xmpp:styling:0"                  // XEP-0393
)

// mediaTypes are those of files that are known by nothing but their name. It is a constant table.
var mediaTypes = map[string]string{
	"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp",
	"heic": "image/heic",
	"avif": "image/avif", "mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime", "m4v": "video/mp4",
	"ogg": "audio/ogg", "opus": "audio/ogg", "oga": "audio/ogg", "mp3": "audio/mpeg", "m4a": "audio/mp4",
	"aac": "audio/aac", "wav": "audio/wav",
	"pdf": "application/pdf",
}

// kindOf returns the kind of a file of that media type that is to be shown in its place.
func kindOf(media string) Kind {
	major, _, _ := strings.Cut(media, "/")
	switch major {
	case "image":
		return Image
	case "audio":
		return Voice
	case "video":
		return Video
	}
	return File
}
