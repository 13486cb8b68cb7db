-- What greenfcgi.html and greenfcgi.template share: text that is escaped, text that is HTML already, and pages under way.
--
-- arguments: lua, server: see boot.lua
-- server gets: markup: a table:
--          escape(value): text that shows as itself in a page, whatever it is
--          text_of(value): the same of any value that is not HTML already: nil is empty
--          raw(text): a value that is HTML already; is_raw(value), raw_text(value)
--          begin(): a page begins; returns what stands for it, which scripts may see
--          write(page, literal, value): adds text as it is, and a value escaped, or nothing for nil
--          write_raw(page, literal, value): the same, with the value as it is
--          finish(page): its text

local lua, server = ...

-- LuaJIT compiles all of it: others have their turn by `count`.
server.hot()

local count = server.count
local byte, char, concat, gsub, sub = lua.byte, lua.char, lua.concat, lua.gsub, lua.sub
local rawget, setmetatable, tostring, type, metatable_of =
    lua.rawget, lua.setmetatable, lua.tostring, lua.type, lua.metatable_of

-- Bytes that are escaped in one step.
local PART = 4096
-- Bytes of a buffer that is kept for the next text.
local MAX_KEPT = 65536

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#039;" }

-- Text that is HTML already

local raw_meta = { __name = "html", __metatable = false }

local function is_raw(value) return type(value) == "table" and metatable_of(value) == raw_meta end

local function raw_text(value)
    local text = rawget(value, 1)
    return type(text) == "string" and text or ""
end

local function raw(text) return setmetatable({ text }, raw_meta) end

raw_meta.__tostring = raw_text

-- Any other value as text, before it is escaped.
local function text_of(value)
    if value == nil then return "" end
    local text = tostring(value)
    -- What a __tostring returns is looked at by 5.3 and later only.
    if type(text) ~= "string" then server.errors.blame("'__tostring' must return a string") end
    return text
end

local opened, library
if lua.jit and lua["string.buffer"] then opened, library = lua.pcall(lua["string.buffer"]) end

local escape_text, begin, finish, write, write_raw

if opened and library then
    -- Each byte into a buffer: compiled, that takes half the time of gsub.
    local new_buffer = library.new
    local ESCAPED = {}
    for c = 0, 255 do ESCAPED[c] = ENTITIES[char(c)] or char(c) end

    -- One that nobody uses. What is under way when an error comes is not given back.
    local free = new_buffer()

    local function take()
        local buffer = free
        if buffer then
            free = nil
            return buffer
        end
        return new_buffer()
    end

    local function text_in(buffer)
        local text = buffer:get()
        if #text > MAX_KEPT then buffer:free() end
        free = buffer
        return text
    end

    local function put_escaped(buffer, text)
        local length = #text
        if length <= PART then
            for i = 1, length do buffer:put(ESCAPED[byte(text, i)]) end
            return
        end
        for at = 1, length, PART do
            count(5)
            local last = at + PART - 1
            if last > length then last = length end
            for i = at, last do buffer:put(ESCAPED[byte(text, i)]) end
        end
    end

    function escape_text(text)
        local buffer = take()
        put_escaped(buffer, text)
        return text_in(buffer)
    end

    -- The buffers of pages. A script sees the page, which is no more than a key: a buffer has functions that reach memory.
    local buffers = setmetatable({}, { __mode = "k" })
    -- The one that was written to last.
    local current, current_buffer

    local function turn_to(page)
        local buffer = buffers[page] or server.errors.blame("this page has ended")
        current, current_buffer = page, buffer
        return buffer
    end

    function begin()
        local page = {}
        buffers[page] = take()
        return page
    end

    function finish(page)
        local buffer = turn_to(page)
        buffers[page], current, current_buffer = nil, nil, nil
        return text_in(buffer)
    end

    local function put_other(page, buffer, value)
        if is_raw(value) then
            buffer:put(raw_text(value))
        else
            -- It may call the script.
            local text = text_of(value)
            put_escaped(turn_to(page), text)
        end
    end

    function write(page, literal, value)
        local buffer = page == current and current_buffer or turn_to(page)
        buffer:put(literal)
        if value == nil then return end
        local kind = type(value)
        if kind == "string" then
            local length = #value
            if length <= PART then
                -- Here, and four bytes by each call: a sixth less for a whole page than by a function, or one by one.
                local i = 1
                while i + 3 <= length do
                    local a, b, c, d = byte(value, i, i + 3)
                    buffer:put(ESCAPED[a], ESCAPED[b], ESCAPED[c], ESCAPED[d])
                    i = i + 4
                end
                while i <= length do
                    buffer:put(ESCAPED[byte(value, i)])
                    i = i + 1
                end
            else
                put_escaped(buffer, value)
            end
        elseif kind == "number" then
            buffer:put(tostring(value))
        else
            put_other(page, buffer, value)
        end
    end

    function write_raw(page, literal, value)
        local buffer = page == current and current_buffer or turn_to(page)
        buffer:put(literal)
        if value ~= nil then buffer:put(is_raw(value) and raw_text(value) or text_of(value)) end
    end
else
    function escape_text(text)
        if #text <= PART then return (gsub(text, "[&<>\"']", ENTITIES)) end
        local parts, n = {}, 0
        for at = 1, #text, PART do
            count(20)
            n = n + 1
            parts[n] = gsub(sub(text, at, at + PART - 1), "[&<>\"']", ENTITIES)
        end
        return concat(parts, "", 1, n)
    end

    -- So many pieces are joined into one.
    local MAX_PIECES = 1024
    -- The pieces of pages, which are no more than keys; and how many pieces there are, in their first place.
    local pieces_of = setmetatable({}, { __mode = "k" })

    function begin()
        local page = {}
        pieces_of[page] = { 1 }
        return page
    end

    local function joined(pieces, last)
        local text = concat(pieces, "", 2, last)
        for i = 2, last do pieces[i] = nil end
        return text
    end

    function finish(page)
        local pieces = pieces_of[page] or server.errors.blame("this page has ended")
        pieces_of[page] = nil
        local blocks = pieces.blocks
        if not blocks then return concat(pieces, "", 2, pieces[1]) end
        blocks[#blocks + 1] = joined(pieces, pieces[1])
        return concat(blocks)
    end

    local function add(page, literal, text)
        local pieces = pieces_of[page] or server.errors.blame("this page has ended")
        local last = pieces[1] + 2
        pieces[last - 1], pieces[last], pieces[1] = literal, text, last
        if last > MAX_PIECES then
            local blocks = pieces.blocks or {}
            pieces.blocks = blocks
            blocks[#blocks + 1] = joined(pieces, last)
            pieces[1] = 1
        end
    end

    function write(page, literal, value)
        local kind = type(value)
        if kind == "string" then
            value = escape_text(value)
        elseif kind == "number" then
            value = tostring(value)
        elseif kind == "nil" then
            value = ""
        else
            value = is_raw(value) and raw_text(value) or escape_text(text_of(value))
        end
        add(page, literal, value)
    end

    function write_raw(page, literal, value)
        add(page, literal, is_raw(value) and raw_text(value) or text_of(value))
    end
end

local function escape(value)
    if type(value) == "string" then return escape_text(value) end
    return is_raw(value) and raw_text(value) or escape_text(text_of(value))
end

-- What is joined to HTML is escaped, where it is none.
function raw_meta.__concat(a, b) return raw(escape(a) .. escape(b)) end

server.markup = {
    escape = escape, raw = raw, is_raw = is_raw, raw_text = raw_text, text_of = text_of, begin = begin, finish = finish,
    write = write, write_raw = write_raw,
}
return server.markup
