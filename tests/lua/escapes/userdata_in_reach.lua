-- Any userdata but Lua's own files, in all that can be reached from the globals, env and con, with metatables.
local seen, found = {}, {}

local function look(value, path)
    local kind = type(value)
    if kind == "userdata" or kind == "cdata" then
        if not io.type(value) then found[#found + 1] = path .. " is a " .. kind end
        value = getmetatable(value)
        path, kind = path .. "'s metatable", type(value)
    end
    if (kind ~= "table" and kind ~= "function" and kind ~= "string" and kind ~= "thread") or seen[value] then return end
    seen[value] = true
    if kind == "table" then
        for name, item in next, value do
            look(name, path .. "'s key")
            look(item, path .. "." .. tostring(name))
        end
    end
    if kind == "function" and getfenv then look(getfenv(value), path .. "'s environment") end
    look(getmetatable(value), path .. "'s metatable")
end

function main(env, con)
    look(_G, "_G")
    look(env, "env")
    look(con, "con")
    look(coroutine.running(), "thread")
    look({ pcall(con.puts) }, "result")
    look({ pcall(con.sleep, con, "x") }, "result")
    look({ pcall(con.gets, con) }, "result")
    look({ con:config("x") }, "result")
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
