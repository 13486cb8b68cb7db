-- con:file: a file as a reply, with ranges and conditions (RFC 9110, sections 13 and 14).
--
-- arguments: lua, server: see boot.lua
--            functions of the server (see sending.py): open(path): "", its number, bytes, seconds and nanoseconds of its
--            change; or nil and what has failed. read(number, at, length): bytes, or nil. send(number, at, length), which may
--            be waited for with wait(): nil, or the client has gone; or nil and what has failed. close(number); variable(name)
--
-- returns: send(con, path, options): true; or nil and what has failed

local lua, server, functions = ...

local byte, find, floor, format, gsub, lower, match, next, sub, tonumber, tostring, type =
    lua.byte, lua.find, lua.floor, lua.format, lua.gsub, lua.lower, lua.match, lua.next, lua.sub, lua.tonumber, lua.tostring,
    lua.type

local http_date = server.opening("greenfcgi.http_date")

local PART = 65536
-- Bytes of a range that is looked at.
local MAX_RANGE = 100

local TYPES = {
    html = "text/html", htm = "text/html", css = "text/css", js = "text/javascript", mjs = "text/javascript",
    txt = "text/plain", md = "text/markdown", csv = "text/csv", xml = "text/xml", json = "application/json",
    webmanifest = "application/manifest+json", wasm = "application/wasm", pdf = "application/pdf",
    zip = "application/zip", gz = "application/gzip", tar = "application/x-tar", bz2 = "application/x-bzip2",
    xz = "application/x-xz", ["7z"] = "application/x-7z-compressed", rtf = "application/rtf", epub = "application/epub+zip",
    doc = "application/msword", xls = "application/vnd.ms-excel", ppt = "application/vnd.ms-powerpoint",
    docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    pptx = "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    odt = "application/vnd.oasis.opendocument.text", ods = "application/vnd.oasis.opendocument.spreadsheet",
    png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", webp = "image/webp",
    avif = "image/avif", svg = "image/svg+xml", ico = "image/x-icon", bmp = "image/bmp", tif = "image/tiff",
    tiff = "image/tiff", mp3 = "audio/mpeg", ogg = "audio/ogg", oga = "audio/ogg", opus = "audio/ogg", wav = "audio/wav",
    flac = "audio/flac", m4a = "audio/mp4", mp4 = "video/mp4", m4v = "video/mp4", webm = "video/webm", ogv = "video/ogg",
    mov = "video/quicktime", woff = "font/woff", woff2 = "font/woff2", ttf = "font/ttf", otf = "font/otf",
    ics = "text/calendar", vcf = "text/vcard", sqlite = "application/vnd.sqlite3", atom = "application/atom+xml",
    rss = "application/rss+xml",
}

local function blame(...) server.errors.blame(format(...)) end

local CONTROL = lua.version == "Lua 5.1" and "[%c%z\127]" or "[%c\0\127]"

local function is_line(value) return type(value) == "string" and value ~= "" and not find(value, CONTROL) end

local OPTIONS = {
    type = { is_line, "a media type" },
    download = { function(v) return is_line(v) or type(v) == "boolean" end, "the name of a file, or true" },
    accel = { function(v) return is_line(v) and byte(v) == 47 end, "the path of an internal location of nginx" },
    sendfile = { function(v) return type(v) == "boolean" end, "true or false" },
    etag = { function(v) return type(v) == "boolean" or is_line(v) end, "an ETag, or false" },
    max_age = { function(v) return type(v) == "number" and v >= 0 and v < 2 ^ 31 end, "seconds from 0 up" },
}

local function checked(options)
    if options == nil then return {} end
    if type(options) ~= "table" then blame("bad argument #2 to 'file' (table expected, got %s)", type(options)) end
    for name, value in next, options do
        local rule = OPTIONS[name]
        if not rule then
            blame("unknown option '%s'; known are accel, download, etag, max_age, sendfile, type", tostring(name))
        elseif not rule[1](value) then
            blame("bad option '%s' (found %s, expected %s)", name, tostring(value), rule[2])
        end
    end
    return options
end

local function escaped(c) return format("%%%02X", byte(c)) end

-- RFC 6266: the name in ASCII for old clients, and as it is.
local function disposition(name)
    local plain = gsub(gsub(name, '["\\]', "_"), "[\128-\255]+", "_")
    local text = 'attachment; filename="' .. plain .. '"'
    if plain ~= name then text = text .. "; filename*=UTF-8''" .. gsub(name, "[^%w!#$&+%-.^_`|~]", escaped) end
    return text
end

local function describe(con, path, options)
    local header = server.response.header
    local kind = options.type
    if not kind then
        kind = TYPES[lower(match(path, "%.([%w]+)$") or "")] or "application/octet-stream"
        if find(kind, "^text/") then kind = kind .. "; charset=utf-8" end
    end
    header(con, "Content-Type", kind)
    -- What users have uploaded is not what it is taken for.
    header(con, "X-Content-Type-Options", "nosniff")
    local name = options.download
    if name == true then name = match(path, "([^/]*)$") end
    if name then header(con, "Content-Disposition", disposition(name)) end
    if options.max_age then header(con, "Cache-Control", format("max-age=%.0f", floor(options.max_age))) end
end

local function request()
    local env = {}
    for _, name in lua.ipairs {
        "REQUEST_METHOD", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_RANGE", "HTTP_IF_RANGE",
    } do env[name] = functions.variable(name) end
    return env
end

-- The first and the last byte that are asked for, from 0; nil where it is the whole; false where there are none. Of several
-- ranges it is the whole, which is always right.
local function range_of(env, size, etag, modified)
    local text = env.HTTP_RANGE
    if not text or env.REQUEST_METHOD ~= "GET" then return nil end
    local condition = env.HTTP_IF_RANGE
    -- A weak tag is none that bytes of two versions may be put together by.
    if condition and (condition ~= etag or sub(condition, 1, 1) == "W") and http_date.parse(condition) ~= modified then
        return nil
    end
    if #text > MAX_RANGE then return nil end
    local first, last = match(lower(text), "^bytes%s*=%s*(%d*)%s*%-%s*(%d*)%s*$")
    if not first or #first > 15 or #last > 15 or first == "" and last == "" then return nil end
    if first == "" then
        local length = tonumber(last)
        if length == 0 or size == 0 then return false end
        return length < size and size - length or 0, size - 1
    end
    first, last = tonumber(first), tonumber(last) or size - 1
    if last < first and match(text, "%-%s*%d") then return nil end
    if first >= size then return false end
    return first, last < size and last or size - 1
end

local function transfer(con, file, first, length)
    if length <= PART then
        local data = functions.read(file, first, length)
        if not data or #data < length then return nil, "the file has become shorter while it was sent, or cannot be read" end
        server.response.header(con, "Content-Length", length)
        con:puts(data)
        return true
    end
    server.response.header(con, "Content-Length", length)
    -- A head without a body.
    server.response.flush(con)
    local at, ending = first, first + length
    while at < ending do
        local part = ending - at < PART and ending - at or PART
        local gone, problem = functions.send(file, at, part)
        while type(gone) == "number" do
            server.call("slow", server.errors.way(2))
            gone = functions.wait()
        end
        if gone then server.raise_disconnected() end
        if problem then
            server.call("log", "error", "con:file: " .. problem)
            return nil, problem
        end
        at = at + part
        server.response_access.count_sent(part)
        server.look_at_clock()
    end
    return true
end

local function answer(con, path, options, file, size, seconds, nanoseconds)
    local _, _, is_sent, is_bodiless = server.response_access.head()
    if is_sent then blame("con:file: the headers have been sent already") end
    local header, status = server.response.header, server.response.status
    con:reset()
    local etag = options.etag
    if etag == nil or etag == true then etag = format('"%.0f-%.0f-%.0f"', seconds, nanoseconds, size) end
    -- As the header has it, and so If-Range.
    if etag and not find(etag, '"', 1, true) then etag = '"' .. etag .. '"' end
    local env = request()
    describe(con, path, options)
    if http_date.not_modified(env, con, { etag = etag or nil, modified = seconds }) then return true end
    header(con, "Accept-Ranges", "bytes")
    local first, last = range_of(env, size, etag, seconds)
    if first == false then
        status(con, 416)
        header(con, "Content-Range", format("bytes */%.0f", size))
        header(con, "Content-Length", 0)
        return true
    end
    local length = size
    if first then
        status(con, 206)
        header(con, "Content-Range", format("bytes %.0f-%.0f/%.0f", first, last, size))
        length = last - first + 1
    end
    if is_bodiless then
        header(con, "Content-Length", length)
        return true
    end
    return transfer(con, file, first or 0, length)
end

return function(con, path, options)
    if type(path) ~= "string" then server.refusals.wrong("file", 1, "string", path) end
    options = checked(options)
    path = server.paths(path)
    if options.accel then
        con:reset()
        describe(con, path, options)
        server.response.header(con, "X-Accel-Redirect", (gsub(options.accel, "[^%w!$&'()*+,%-./:;=@_~%%]", escaped)))
        return true
    end
    local opened, file, size, seconds, nanoseconds = functions.open(path)
    if not opened then return nil, path .. ": " .. file end
    if options.sendfile then
        functions.close(file)
        con:reset()
        describe(con, path, options)
        server.response.header(con, "X-Sendfile", path)
        return true
    end
    local done, problem = answer(con, path, options, file, size, seconds, nanoseconds)
    functions.close(file)
    if not done then return nil, path .. ": " .. problem end
    return true
end
