-- The module that scripts get by require "wsapi": where the parts of WSAPI find the folder of the application, app_path. It is
-- that of the rock where that is installed, and a table of its own where it is not.
--
-- arguments: lua, server: see boot.lua

local lua, server = ...

local chunk = server.modules.search("wsapi")
local found = lua.type(chunk) == "function" and chunk("wsapi")
if lua.type(found) ~= "table" then found = lua.type(lua.rawget(_G, "wsapi")) == "table" and lua.rawget(_G, "wsapi") or {} end
if found.app_path == nil then found.app_path = server.settings.directory end
return found
