package content

import "strings"

// Namespaces of the extensions that carry what is said.
const (
	nsSharing    = "urn:xmpp:sfs:0"                        // XEP-0447
	nsMetadata   = "urn:xmpp:file:metadata:0"              // XEP-0446
	nsHashes     = "urn:xmpp:hashes:2"                     // XEP-0300
	nsURLData    = "http://jabber.org/protocol/url-data"   // XEP-0103
	nsOOB        = "jabber:x:oob"                          // XEP-0066
	nsGeoloc     = "http://jabber.org/protocol/geoloc"     // XEP-0080
	nsForward    = "urn:xmpp:forward:0"                    // XEP-0297
	nsDelay      = "urn:xmpp:delay"                        // XEP-0203
	nsSID        = "urn:xmpp:sid:0"                        // XEP-0359
	nsReply      = "urn:xmpp:reply:0"                      // XEP-0461
	nsFallback   = "urn:xmpp:fallback:0"                   // XEP-0428
	nsReference  = "urn:xmpp:reference:0"                  // XEP-0372
	nsCorrect    = "urn:xmpp:message-correct:0"            // XEP-0308
	nsRetract    = "urn:xmpp:message-retract:1"            // XEP-0424
	nsReactions  = "urn:xmpp:reactions:0"                  // XEP-0444
	nsMarkers    = "urn:xmpp:chat-markers:0"               // XEP-0333
	nsReceipts   = "urn:xmpp:receipts"                     // XEP-0184
	nsChatStates = "http://jabber.org/protocol/chatstates" // XEP-0085
	nsStyling    = "urn:xmpp:styling:0"                    // XEP-0393
	nsEncryption = "urn:xmpp:eme:0"                        // XEP-0380
)

// mediaTypes are those of files that are known by nothing but their name. It is a constant table.
var mediaTypes = map[string]string{
	"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp", "heic": "image/heic",
	"avif": "image/avif", "mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime", "m4v": "video/mp4",
	"ogg": "audio/ogg", "opus": "audio/ogg", "oga": "audio/ogg", "mp3": "audio/mpeg", "m4a": "audio/mp4", "aac": "audio/aac", "wav": "audio/wav",
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
