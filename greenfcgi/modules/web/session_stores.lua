-- Where sessions are kept by their ids: in a dictionary of greenfcgi.shared, or in a table of a database.
--
-- arguments: lua, server: see boot.lua, with session_functions, those of session.lua
-- returns: shared(name), sql(url): a store: a table: get(key): the text, or nil and what has failed; set(key, text, seconds,
--          is_kept): true, or nil and what has failed; with is_kept, one that is gone is not made again; delete(key): the same

local lua, server = ...

local find, floor, functions = lua.find, lua.floor, server.session_functions

local function shared(name)
    local kept = server.opening("greenfcgi.shared")(name)
    return {
        get = function(key)
            local text, problem = kept:get(key)
            if lua.type(text) ~= "string" then return nil, text == nil and lua.type(problem) == "string" and problem or nil end
            return text
        end,
        set = function(key, text, seconds, is_kept)
            local done, problem
            if is_kept then
                done, problem = kept:replace(key, text, seconds)
            else
                done, problem = kept:set(key, text, seconds)
            end
            if not done and problem ~= "not found" then return nil, problem end
            return true
        end,
        delete = function(key)
            local _, problem = kept:delete(key)
            if lua.type(problem) == "string" then return nil, problem end
            return true
        end,
    }
end

local CREATE = "create table if not exists greenfcgi_sessions "
    .. "(id varchar(64) not null primary key, data %s not null, expires bigint not null)"
-- One in so many sessions that are kept looks for those that are over.
local SWEEP = 100

local function sql(url)
    local db, problem = server.opening("greenfcgi.sql").connect(url)
    if not db then return nil, problem end
    local is_mysql = find(url, "^mysql") or find(url, "^mariadb")
    local upsert = "insert into greenfcgi_sessions (id, data, expires) values (?, ?, ?) "
        .. (is_mysql and "on duplicate key update data = values(data), expires = values(expires)"
            or "on conflict (id) do update set data = excluded.data, expires = excluded.expires")
    local is_made, saved = false, 0

    local function made()
        if is_made then return true end
        is_made, problem = db:execute(lua.format(CREATE, is_mysql and "mediumtext" or "text"))
        return is_made
    end

    local function execute(statement, ...)
        local done
        if not made() then return nil, problem end
        done, problem = db:execute(statement, ...)
        if not done then return nil, problem end
        return true
    end

    return {
        get = function(key)
            local rows
            if not made() then return nil, problem end
            rows, problem = db:query("select data from greenfcgi_sessions where id = ? and expires > ?", key,
                floor(functions.now()))
            if not rows then return nil, problem end
            return rows[1] and functions.decode(rows[1].data) or nil
        end,
        set = function(key, text, seconds, is_kept)
            local now = functions.now()
            saved = saved + 1
            if saved % SWEEP == 0 then execute("delete from greenfcgi_sessions where expires <= ?", floor(now)) end
            if is_kept then
                return execute("update greenfcgi_sessions set data = ?, expires = ? where id = ?", functions.encode(text),
                    floor(now + seconds), key)
            end
            return execute(upsert, key, functions.encode(text), floor(now + seconds))
        end,
        delete = function(key) return execute("delete from greenfcgi_sessions where id = ?", key) end,
    }
end

return { shared = shared, sql = sql }
